"use strict";
const MOST_LINES = 512;
let models = [];

function made(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
}

async function shown(work) {
  at("error").textContent = "";
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  try {
    await work();
  } catch (error) {
    at("error").textContent = error.message;
  }
  const model = chosen();
  at("ask").disabled = !model;
  at("explain").disabled = !model || model.body !== "texts" || !model.labels.length;
}

const chosen = () => models.find((one) => one.name === at("model").value);

async function loadModels() {
  models = (await asked("v1/models")).models;
  const select = at("model");
  select.replaceChildren(...models.map((one) => new Option(`${one.name} (${one.model})`, one.name)));
  select.disabled = false;
  showModel();
}

function showModel() {
  const model = chosen();
  if (!model) return;
  const labels = model.labels.slice(0, 12).join(", ") + (model.labels.length > 12 ? ", ..." : "");
  at("about").textContent = `Task ${model.task}, engine ${model.engine}${labels ? ": " + labels : ""}`;
  at("second").hidden = model.body !== "pairs";
  at("one").hidden = model.body === "media";
  if (!at("text").value && model.example.text) at("text").value = model.example.text;
  if (!at("text").value && model.example.tokens) at("text").value = model.example.tokens.join(" ");
  if (!at("text-b").value && model.example.text_b) at("text-b").value = model.example.text_b;
}

async function inputs(model) {
  const file = at("file").files[0];
  if (model.body === "media") {
    if (!file) throw new Error("choose a file");
    return { names: [file.name], values: [await base64(file)] };
  }
  const lines = file ? (await file.text()).split(/\r?\n/).filter((line) => line.trim()) : [at("text").value];
  if (lines.length > MOST_LINES) throw new Error(`the file has ${lines.length} lines, at most ${MOST_LINES}`);
  const cells = lines.map((line) => line.split("\t"));
  const values = {
    texts: () => lines,
    pairs: () => (file ? cells.map((line) => [line[0], line[1] || ""]) : [[lines[0], at("text-b").value]]),
    tokens: () => lines.map((line) => line.split(/\s+/).filter(Boolean)),
  }[model.body]();
  return { names: lines, values };
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) {
    text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  }
  return btoa(text);
}

async function answer() {
  const model = chosen();
  const { names, values } = await inputs(model);
  const said = await asked("v1/score", { model: model.name, [model.body]: values, top_labels: 10 });
  const parts = said.answers.length === 1 ? details(said.answers[0], names[0]) : [table(said.answers, names)];
  at("answers").replaceChildren(made("h2", `Answered by ${said.model}`), ...parts);
}

function details(one, text) {
  if (one.error) return [made("p", one.error, "error")];
  const parts = [];
  if (one.prediction !== null) parts.push(made("p", `${one.prediction}${one.score === null ? "" : " " + one.score.toFixed(3)}`, "prediction"));
  if (one.output !== null) parts.push(made("p", one.output, "text"));
  if (one.spans) parts.push(marked(text, one.spans));
  if (one.scores) parts.push(bars(Object.entries(one.scores)));
  if (one.embedding) parts.push(made("p", `a vector of ${one.embedding.length} numbers`));
  return parts;
}

function bars(scores) {
  const found = made("table");
  for (const [label, score] of scores) {
    const row = found.insertRow();
    row.append(made("td", label));
    const bar = made("meter");
    bar.value = score;
    const cell = made("td");
    cell.append(bar);
    row.append(cell, made("td", score.toFixed(3), "number"));
  }
  return found;
}

function marked(text, spans) {
  const found = made("p", null, "text");
  let end = 0;
  for (const span of spans) {
    found.append(text.slice(end, span.start));
    const mark = made("mark", text.slice(span.start, span.end));
    mark.title = `${span.label} ${span.score.toFixed(3)}`;
    mark.append(made("small", ` ${span.label}`));
    found.append(mark);
    end = span.end;
  }
  found.append(text.slice(end));
  return found;
}

function table(answers, names) {
  const found = made("table");
  answers.forEach((one, place) => {
    const row = found.insertRow();
    const spans = one.spans ? one.spans.map((span) => `${span.label}: ${names[place].slice(span.start, span.end)}`).join("; ") : null;
    row.append(made("td", names[place]));
    row.append(made("td", one.error || one.prediction || one.output || spans || "", one.error ? "error" : ""));
    row.append(made("td", one.score === null ? "" : one.score.toFixed(3), "number"));
  });
  return found;
}

async function explain() {
  const text = at("text").value;
  const said = await asked("v1/explain", { model: chosen().name, text });
  const most = Math.max(...said.parts.map((part) => Math.abs(part.effect || 0)), 1e-9);
  const shownText = made("p", null, "text");
  let end = 0;
  for (const part of said.parts) {
    shownText.append(text.slice(end, part.start));
    const size = (part.effect || 0) / most;
    const kind = Math.abs(size) < 0.1 ? "" : size > 0 ? "for" : "against";
    const piece = made("span", part.text, Math.abs(size) > 0.6 ? `${kind} strong` : kind);
    piece.title = part.effect === null ? "" : part.effect.toFixed(4);
    shownText.append(piece);
    end = part.end;
  }
  at("answers").replaceChildren(
    made("h2", `${said.label}: ${said.score.toFixed(3)}, by ${said.model}`),
    made("p", "Green parts raise this score, red ones lower it: the score is less, or more, where they are left out."),
    shownText,
  );
}

at("token").addEventListener("change", () => shown(loadModels));
at("model").addEventListener("change", () => shown(async () => showModel()));
at("ask").addEventListener("click", () => shown(answer));
at("explain").addEventListener("click", () => shown(explain));
