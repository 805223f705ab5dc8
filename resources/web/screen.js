// A guest's screen in the browser: noVNC on the API's WebSocket. `/screen?domain=NAME` opens one at once.
import RFB from "/screen/novnc.js";

const at = (id) => document.getElementById(id);
let viewer = null;

function say(text) {
  at("state").textContent = text;
}

function show(domain) {
  if (viewer) viewer.disconnect();
  at("screen").replaceChildren();
  document.title = `${domain}: screen`;
  at("name").textContent = domain;
  say("connecting");
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const url = `${scheme}://${location.host}/v1/domains/${encodeURIComponent(domain)}/vnc`;
  const current = new RFB(at("screen"), url, { wsProtocols: ["binary"] });
  viewer = current;
  current.scaleViewport = true;
  current.addEventListener("connect", () => {
    say("");
    at("keys").disabled = false;
    current.focus();
  });
  current.addEventListener("disconnect", async (event) => {
    if (viewer !== current) return;
    at("keys").disabled = true;
    say(event.detail.clean ? "the guest has ended, or sent this viewer away" : await reason(domain));
  });
}

// A browser does not tell why a WebSocket was refused; the API does.
async function reason(domain) {
  const answer = await fetch(`/v1/domains/${encodeURIComponent(domain)}/screenshot`).catch(() => null);
  if (!answer) return "the daemon does not answer";
  if (answer.ok) return "the connection broke off";
  const problem = await answer.json().catch(() => null);
  return problem?.detail ?? `refused (${answer.status})`;
}

async function list(wanted) {
  const answer = await fetch("/v1/domains?active=true");
  const domains = answer.ok ? (await answer.json()).domains.map((domain) => domain.name) : [];
  const options = domains.map((name) => new Option(name, name, name === wanted, name === wanted));
  at("domains").replaceChildren(new Option("Domain …", ""), ...options);
  if (wanted) at("domains").value = wanted;
}

at("domains").addEventListener("change", (event) => {
  const domain = event.target.value;
  if (!domain) return;
  history.replaceState(null, "", `?domain=${encodeURIComponent(domain)}`);
  show(domain);
});
at("keys").addEventListener("click", () => {
  viewer?.sendCtrlAltDel();
  viewer?.focus();
});
at("full").addEventListener("click", () => at("screen").requestFullscreen());

const wanted = new URLSearchParams(location.search).get("domain");
if (wanted) show(wanted);
else say("choose a domain that runs");
list(wanted).catch(() => say("the daemon does not answer"));
