"use strict";
let rows = [];
let place = 0;
let given = new Map();
let facts = { open: 0, labelled: 0, choices: [], free: false };
let busy = false;

async function shown(work) {
  if (busy) return;
  busy = true;
  at("error").textContent = "";
  try {
    await work();
  } catch (error) {
    at("error").textContent = error.message;
  }
  busy = false;
  show();
}

async function load() {
  facts = await asked("v1/queue?limit=50");
  rows = facts.rows;
  place = 0;
  given = new Map();
}

function show() {
  const row = rows[place];
  at("row").hidden = !row;
  at("back").disabled = place === 0;
  at("state").textContent = `${facts.open - given.size} to label, ${facts.labelled + given.size} done`;
  if (!row) return;
  const sure = row.score === null ? "" : ` (${row.score.toFixed(3)})`;
  const said = row.prediction === null ? "" : `, predicted ${row.prediction}${sure}`;
  at("why").textContent = `In the queue because: ${row.reason}${said}`;
  at("text").textContent = row.text;
  at("other").hidden = !facts.free;
  at("choices").replaceChildren(
    ...facts.choices.map((label, number) => {
      const button = document.createElement("button");
      button.textContent = number < 9 ? `${number + 1} ${label}` : label;
      button.dataset.label = label;
      if (given.get(row.doc_id) === label) button.className = "strong";
      button.addEventListener("click", () => shown(() => give(label)));
      return button;
    }),
  );
}

async function give(label) {
  const row = rows[place];
  if (!row || !label) return;
  await asked("v1/labels", { labels: [{ doc_id: row.doc_id, label }] });
  given.set(row.doc_id, label);
  if (facts.free && !facts.choices.includes(label)) facts.choices.push(label);
  await next();
}

async function next() {
  place += 1;
  if (place >= rows.length && given.size) await load();
}

at("load").addEventListener("click", () => shown(load));
at("token").addEventListener("keydown", (event) => event.key === "Enter" && shown(load));
at("give").addEventListener("click", () => shown(() => give(at("free").value.trim())));
at("skip").addEventListener("click", () => shown(next));
at("back").addEventListener("click", () => shown(async () => { place = Math.max(0, place - 1); }));
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey || !rows[place]) return;
  if (event.key === "0") shown(next);
  const label = facts.choices[Number(event.key) - 1];
  if (label !== undefined) shown(() => give(label));
});
