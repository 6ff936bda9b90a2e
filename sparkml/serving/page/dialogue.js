"use strict";
const at = (id) => document.getElementById(id);

function said(who, text, parent) {
  const element = document.createElement("p");
  element.className = who;
  element.dir = "auto";
  element.textContent = text;
  parent.append(element);
  return element;
}

async function reply(text) {
  const response = await fetch("v1/reply", {
    method: "POST",
    headers: { Authorization: `Bearer ${at("token").value.trim()}`, "Content-Type": "application/json" },
    body: JSON.stringify({ text }),
  });
  const read = await response.json().catch(() => ({}));
  if (response.ok) return read;
  const detail = Array.isArray(read.detail) ? read.detail[0] : { msg: read.detail };
  throw new Error(`${response.status}: ${detail.msg || response.statusText}`);
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
    const found = await reply(text);
    said("asked", text, at("talk"));
    at("text").value = "";
    show(found);
  } catch (error) {
    at("error").textContent = error.message;
  }
  at("ask").disabled = false;
  at("text").focus();
});
