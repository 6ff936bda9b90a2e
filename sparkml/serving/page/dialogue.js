"use strict";
function said(who, text, parent) {
  const element = document.createElement("p");
  element.className = who;
  element.dir = "auto";
  element.textContent = text;
  parent.append(element);
  return element;
}

function show(found) {
  const box = document.createElement("div");
  box.className = "reply";
  box.dataset.kind = found.kind;
  const intent = found.intent;
  const sure = intent ? `${intent.label.replaceAll("_", " ")} (${intent.score.toFixed(2)})` : "";
  if (found.kind === "answer") {
    said("question", found.answers[0].question, box);
    said("answer", found.answers[0].answer, box);
  } else if (found.kind === "intent") said("answer", `This is about: ${sure}`, box);
  else said("answer", "I do not know about that. A person will answer.", box);
  const others = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = `${intent ? `Intent ${sure}${intent.in_scope ? "" : ", out of scope"}; ` : ""}${found.answers.length} nearest questions`;
  others.append(summary);
  for (const one of found.answers) said("near", `${one.similarity.toFixed(2)} ${one.question}`, others);
  box.append(others);
  at("talk").append(box);
  box.scrollIntoView({ block: "end" });
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text) return;
  at("error").textContent = "";
  at("ask").disabled = true;
  try {
    const found = await asked("v1/reply", { text });
    said("asked", text, at("talk"));
    at("text").value = "";
    show(found);
  } catch (error) {
    at("error").textContent = error.message;
  }
  at("ask").disabled = false;
  at("text").focus();
});
