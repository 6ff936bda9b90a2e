"use strict";
// What all pages have in common: elements by their ids, and requests with the token of the page.
const at = (id) => document.getElementById(id);

async function asked(path, body) {
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { Authorization: `Bearer ${at("token").value.trim()}`, "Content-Type": "application/json" },
    body: body ? JSON.stringify(body) : undefined,
  });
  const read = await response.json().catch(() => ({}));
  if (response.ok) return read;
  const detail = Array.isArray(read.detail) ? read.detail[0] : { msg: read.detail };
  const place = (detail.loc || []).slice(1).join(".");
  throw new Error(`${response.status}: ${place ? place + ": " : ""}${detail.msg || response.statusText}`);
}
