"use strict";
const made = (name, text) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  return element;
};

function fields(schema) {
  const table = made("table");
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const row = table.insertRow();
    row.append(made("td", name + ((schema.required || []).includes(name) ? " (needed)" : "")));
    const kinds = (field.anyOf || [field]).map((one) => one.type || "object").join(" or ");
    row.append(made("td", kinds), made("td", field.description || ""));
  }
  return table;
}

function section(method, path, operation) {
  const parts = [made("h2", `${method.toUpperCase()} ${path}`), made("p", operation.description || operation.summary)];
  const body = operation.requestBody && operation.requestBody.content["application/json"];
  if (body) {
    parts.push(fields(body.schema));
    const examples = body.examples ? Object.values(body.examples).map((one) => one.value) : [body.example];
    for (const example of examples) {
      const words = `curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(example)}' ${location.origin}${path}`;
      parts.push(made("pre", words));
    }
  }
  const table = made("table");
  for (const [code, response] of Object.entries(operation.responses || {})) {
    const row = table.insertRow();
    row.append(made("td", code), made("td", response.description));
  }
  parts.push(table);
  return parts;
}

fetch("openapi.json")
  .then((response) => response.json())
  .then((api) => {
    document.getElementById("about").textContent = api.info.description;
    for (const [path, operations] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        document.getElementById("paths").append(...section(method, path, operation));
      }
    }
  });
