// Shows /openapi.json and tries its operations out. Text from the description or from a reply only
// ever becomes text nodes.
"use strict";

const METHODS = ["get", "post", "put", "delete"];

/** element("p", {class: "quiet"}, "text", child …) */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Text with `code` in it, as nodes. */
function prose(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

class Description {
  constructor(document) {
    this.document = document;
  }

  /** Follow $ref and merge allOf, so that what is left is a plain schema. */
  resolve(schema) {
    if (schema?.$ref) {
      const name = schema.$ref.split("/").pop();
      return { title: name, ...this.resolve(this.document.components.schemas[name]) };
    }
    if (schema?.allOf) {
      const parts = schema.allOf.map((part) => this.resolve(part));
      return {
        ...schema,
        type: "object",
        properties: Object.assign({}, ...parts.map((part) => part.properties)),
        required: parts.flatMap((part) => part.required ?? []),
      };
    }
    const real = (schema?.oneOf ?? schema?.anyOf)?.filter((part) => part.type !== "null");
    return real?.length === 1 ? { ...this.resolve(real[0]), ...(schema.description && { description: schema.description }) } : schema ?? {};
  }

  typeName(given) {
    const schema = this.resolve(given);
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
    if (schema.oneOf) return schema.oneOf.map((part) => this.typeName(part)).join(" | ");
    if (schema.type === "array") return this.typeName(schema.items) + "[]";
    if (schema.title && schema.properties) return schema.title;
    const types = [schema.type].flat().filter((type) => type && type !== "null");
    return (types.join(" | ") || "any") + (schema.format ? ` (${schema.format})` : "");
  }

  byTag() {
    const tags = new Map((this.document.tags ?? []).map((tag) => [tag.name, { ...tag, operations: [] }]));
    for (const [path, item] of Object.entries(this.document.paths)) {
      for (const method of METHODS) {
        if (!item[method]) continue;
        const operation = { path, method, ...item[method] };
        const name = operation.tags?.[0] ?? "Other";
        if (!tags.has(name)) tags.set(name, { name, operations: [] });
        tags.get(name).operations.push(operation);
      }
    }
    return [...tags.values()].filter((tag) => tag.operations.length > 0);
  }
}

function pathNode(path) {
  const parts = path.split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? element("i", {}, part) : part));
  return element("span", { class: "path" }, ...parts);
}

function schemaRows(description, given, depth = 0) {
  let schema = description.resolve(given);
  if (schema.type === "array") schema = description.resolve(schema.items);
  return Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
    const resolved = description.resolve(member);
    const optional = !(schema.required ?? []).includes(name);
    const row = element(
      "tr",
      {},
      element("td", { class: `name deep${depth}` }, name, optional ? element("span", { class: "optional" }, "?") : null),
      element("td", {}, element("span", { class: "type" }, description.typeName(member)), " ", ...prose(resolved.description)),
    );
    return [row, ...(depth < 3 ? schemaRows(description, member, depth + 1) : [])];
  });
}

function schemaNode(description, schema, open) {
  const rows = schemaRows(description, schema);
  if (rows.length === 0) return null;
  return element(
    "details",
    { class: "schema", ...(open && { open: "" }) },
    element("summary", {}, description.typeName(schema)),
    element("table", {}, element("tbody", {}, ...rows)),
  );
}

function parametersNode(description, parameters) {
  if (!parameters?.length) return null;
  const rows = parameters.map((parameter) =>
    element(
      "tr",
      {},
      element("td", { class: "name" }, parameter.name, parameter.required ? null : element("span", { class: "optional" }, "?")),
      element("td", {}, element("span", { class: "type" }, description.typeName(parameter.schema)), " ",
        ...prose(parameter.description), element("span", { class: "quiet" }, ` in ${parameter.in}`)),
    ),
  );
  return element("div", {}, element("h3", {}, "Parameters"), element("table", {}, element("tbody", {}, ...rows)));
}

function responsesNode(description, responses) {
  const rows = Object.entries(responses).map(([status, response]) => {
    const [type, content] = Object.entries(response.content ?? {})[0] ?? [];
    return element(
      "tr",
      {},
      element("td", { class: "name status" }, status),
      element("td", {}, ...prose(response.description || "Success"), type ? element("span", { class: "quiet" }, ` ${type}`) : null,
        content ? schemaNode(description, content.schema, false) : null),
    );
  });
  return element("div", {}, element("h3", {}, "Answers"), element("table", {}, element("tbody", {}, ...rows)));
}

/** A form that sends the request. Only what the user fills in is sent. */
function tryNode(description, operation) {
  const streams = "text/event-stream" in (operation.responses["200"]?.content ?? {});
  if (operation.responses["101"]) {
    const note = "A WebSocket: try it with “manor console DOMAIN”.";
    return element("div", {}, element("h3", {}, "Try it"), element("p", { class: "quiet" }, note));
  }
  const parameters = (operation.parameters ?? []).filter((parameter) => parameter.in !== "header");
  const fields = parameters.map((parameter) => {
    const schema = description.resolve(parameter.schema);
    const id = `${operation.method}${operation.path}-${parameter.name}`;
    const choices = schema.type === "boolean" ? ["true", "false"] : schema.enum;
    const input = choices
      ? element("select", { id }, element("option", { value: "" }, ""), ...choices.map((value) => element("option", {}, value)))
      : element("input", { id, autocomplete: "off", spellcheck: "false", placeholder: parameter.example ?? "" });
    if (parameter.required) input.required = true;
    return { parameter, input, node: element("div", { class: "field" }, element("label", { for: id }, parameter.name), input) };
  });
  const type = Object.keys(operation.requestBody?.content ?? {})[0];
  const body = type ? element("textarea", { "aria-label": "Request body", placeholder: type, spellcheck: "false" }) : null;
  const button = element("button", { type: "submit" }, streams ? "Follow" : "Send");
  const curl = element("pre", { class: "curl" });
  const output = element("div", { "aria-live": "polite" });
  const form = element("form", {}, ...fields.map((field) => field.node), body, button);

  const url = () => {
    let path = operation.path;
    const query = new URLSearchParams();
    for (const { parameter, input } of fields) {
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value) || `{${parameter.name}}`);
      else if (input.value !== "") query.set(parameter.name, input.value);
    }
    return path + (query.size > 0 ? `?${query}` : "");
  };
  const showCurl = () => {
    const method = operation.method === "get" ? "" : `-X ${operation.method.toUpperCase()} `;
    const data = type ? `-H 'Content-Type: ${type}' --data-binary @FILE ` : "";
    curl.textContent = `curl --unix-socket /run/manor/api.sock ${streams ? "-N " : ""}${method}${data}'http://localhost${url()}'`;
  };
  form.addEventListener("input", showCurl);
  showCurl();

  let stream = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (streams) {
      stream = stream ? unfollow(stream, button) : follow(url(), output, button, description);
      return;
    }
    button.disabled = true;
    const options = { method: operation.method.toUpperCase() };
    if (body) Object.assign(options, { body: body.value, headers: { "Content-Type": type } });
    try {
      output.replaceChildren(...(await outcome(await fetch(url(), options))));
    } catch (error) {
      output.replaceChildren(element("p", { class: "outcome bad" }, String(error)));
    }
    button.disabled = false;
  });
  return element("div", {}, element("h3", {}, "Try it"), form, curl, output);
}

async function outcome(response) {
  let text = await response.text();
  if ((response.headers.get("content-type") ?? "").includes("json")) {
    try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
  }
  const verdict = element("p", { class: `outcome ${response.ok ? "good" : "bad"}` }, `${response.status} ${response.statusText}`);
  return text === "" ? [verdict] : [verdict, element("pre", {}, text)];
}

function follow(url, output, button, description) {
  const log = element("pre", {}, "waiting for events …\n");
  output.replaceChildren(log);
  button.textContent = "Stop";
  button.classList.add("stop");
  const source = new EventSource(url);
  const show = (event) => { log.append(`${event.type} ${event.data ?? "(connection lost, trying again)"}\n`); log.scrollTop = log.scrollHeight; };
  const kinds = description.document.components.schemas.Event?.properties?.event?.description?.match(/`([a-z-]+)`/g) ?? [];
  for (const kind of ["error", "message", ...kinds.map((kind) => kind.slice(1, -1))]) source.addEventListener(kind, show);
  return source;
}

function unfollow(source, button) {
  source.close();
  button.textContent = "Follow";
  button.classList.remove("stop");
  return null;
}

function operationNode(description, operation) {
  const summary = element("summary", {}, element("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()),
    pathNode(operation.path), element("span", { class: "says" }, ...prose(operation.summary?.replace(/\.$/, ""))));
  const node = element("details", { class: "operation", id: operation.operationId }, summary);
  node.dataset.words = `${operation.method} ${operation.path} ${operation.summary ?? ""}`.toLowerCase();
  // Filled when first opened: most never are.
  node.addEventListener("toggle", () => {
    if (!node.open || node.childElementCount > 1) return;
    const request = operation.requestBody;
    const [type, content] = Object.entries(request?.content ?? {})[0] ?? [];
    node.append(element("div", { class: "body" },
      operation.description ? element("p", {}, ...prose(operation.description)) : null,
      parametersNode(description, operation.parameters),
      request ? element("div", {}, element("h3", {}, "Body"), element("p", {}, element("code", {}, type), " ", ...prose(request.description)),
        schemaNode(description, content.schema, true)) : null,
      responsesNode(description, operation.responses),
      tryNode(description, operation)));
  });
  return node;
}

function show(description) {
  document.getElementById("version").textContent = description.document.info.version;
  const contents = document.getElementById("contents");
  const main = document.getElementById("operations");
  const intro = (description.document.info.description ?? "").split("\n\n").map((text) => element("p", { class: "quiet" }, ...prose(text)));
  const sections = [];
  for (const tag of description.byTag()) {
    const links = tag.operations.map((operation) => element("a", { href: `#${operation.operationId}` },
      element("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()), operation.operationId.replaceAll("_", " ")));
    contents.append(element("h2", {}, tag.name), ...links);
    sections.push(element("section", {}, element("h2", {}, tag.name), element("p", { class: "quiet" }, tag.description ?? ""),
      ...tag.operations.map((operation) => operationNode(description, operation))));
  }
  main.replaceChildren(...intro, ...sections);
  const reveal = () => {
    const node = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (node?.tagName === "DETAILS") { node.open = true; node.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
}

function filterBy(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const node of document.querySelectorAll(".operation")) {
    node.hidden = !words.every((word) => node.dataset.words.includes(word));
  }
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = [...section.querySelectorAll(".operation")].every((node) => node.hidden);
  }
}

const filter = document.getElementById("filter");
filter.addEventListener("input", () => filterBy(filter.value));
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    filter.focus();
  }
});

fetch("/openapi.json")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`/openapi.json answered ${response.status}`))))
  .then((document) => show(new Description(document)))
  .catch((error) => document.getElementById("operations").replaceChildren(element("p", { class: "outcome bad" }, String(error))));
