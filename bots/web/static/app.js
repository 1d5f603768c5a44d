// The page: which thread is open, the list of them, and what follows from
// scrolling, going away and coming back.

import { Composer } from "./composer.js";
import { Stream } from "./stream.js";
import { Thread } from "./thread.js";
import { h, visible } from "./dom.js";

const $ = (id) => document.getElementById(id);
const nearEnd = 90; // px from the end that count as reading the end
const lostAfter = 1200; // ms without a connection before the page says so
const restAfter = 60_000; // ms in the background before the page lets go of its connection

const { maxFiles, maxSize, maxText } = document.body.dataset;
const composer = new Composer({ files: Number(maxFiles), size: Number(maxSize), text: Number(maxText) }, {
  sent: () => {
    follow(true);
    setTimeout(list, 400); // a new thread is in the list by now
  },
  refused,
});

let current, stream, thread;
let threads = [];

function open(id) {
  stream?.close();
  current = id;
  thread = new Thread($("log"), {
    send: (text) => composer.say(text),
    fill: (text) => composer.fill(text),
    pick: () => composer.pick(),
    busy,
    title: (text) => {
      if (!threads.some((t) => t.id === id)) title(text.split("\n")[0].slice(0, 80));
    },
  });
  composer.open(id);
  busy(false);
  follow(true);
  title(threads.find((t) => t.id === id)?.title ?? "");
  mark();
  stream = new Stream(id, {
    event: (ev) => {
      thread.apply(ev);
      if (thread.live) grown();
      if (ev.kind === "turn.finished" && thread.live) finished();
    },
    draft: (d) => {
      thread.draft(d);
      grown();
    },
    ready: () => {
      thread.ready();
      if (following) toEnd();
    },
    state: connection,
    refused,
  });
  drawer(false);
  if (!matchMedia("(pointer: coarse)").matches) $("text").focus({ preventScroll: true });
}

function go(id) {
  history.pushState(null, "", `/t/${id}`);
  open(id);
}

async function fresh() {
  const answer = await fetch("/api/threads/new", { method: "POST" }).catch(() => null);
  if (answer?.status === 401) return refused(401);
  if (!answer?.ok) return composer.problem("A new thread can't be opened while the server is away.");
  go((await answer.json()).id);
}

function title(text) {
  $("title").textContent = visible(text) || "New thread";
  document.title = `${text || "New thread"} · threadbook`;
}

// Running or not.

function busy(running) {
  $("stop").hidden = !running;
  if (!running) {
    $("stop").disabled = false;
    $("stop").lastElementChild.textContent = "Stop";
  }
}

$("stop").addEventListener("click", async () => {
  $("stop").disabled = true;
  $("stop").lastElementChild.textContent = "Stopping";
  const answer = await fetch(`/api/threads/${encodeURIComponent(current)}/stop`, { method: "POST" }).catch(() => null);
  if (answer?.ok) return;
  $("stop").disabled = false;
  $("stop").lastElementChild.textContent = "Stop";
  composer.problem("The stop did not get through; press it again when the server is back.");
});

function finished() {
  if (document.hidden && !document.title.startsWith("✓ ")) document.title = `✓ ${document.title}`;
  list();
}

// Reading the end, or something further up.

let following = true;
let top = 0;
const scroll = $("scroll");

function toEnd() {
  scroll.scrollTo({ top: scroll.scrollHeight, behavior: "instant" });
}

function follow(on, move = true) {
  following = on;
  if (on) $("pill").hidden = true;
  if (on && move) toEnd();
}

// Only a move upwards is somebody's wish: the end also runs away by itself.
function look() {
  if (scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < nearEnd) follow(true, false);
  else if (scroll.scrollTop < top) follow(false);
  top = scroll.scrollTop;
}

function grown() {
  look();
  if (!following) $("pill").hidden = false;
}

scroll.addEventListener("scroll", look, { passive: true });
$("pill").addEventListener("click", () => follow(true));
// Pictures that load and text that streams push the end away from a reader
// who has not moved.
const resized = new ResizeObserver(() => following && toEnd());
resized.observe($("log"));
resized.observe(scroll);

// The connection.

let lost;
function connection(state) {
  clearTimeout(lost);
  if (state === "live") {
    $("connection").hidden = true;
    return;
  }
  lost = setTimeout(() => {
    $("connection").hidden = false;
    $("connection").textContent = navigator.onLine ? "Reconnecting" : "Offline";
  }, lostAfter);
}

function refused(status) {
  stream?.close();
  if (status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  else location.reload();
}

// A browser has few connections to one server, and a tab in the background
// needs none.
let rest;
document.addEventListener("visibilitychange", () => {
  clearTimeout(rest);
  if (document.hidden) {
    rest = setTimeout(() => thread.running || stream.pause(), restAfter);
    return;
  }
  document.title = document.title.replace(/^✓ /, "");
  stream.resume();
  list();
});
addEventListener("online", () => stream.resume());

// The list of threads.

async function list() {
  const answer = await fetch("/api/threads").catch(() => null);
  if (answer?.status === 401) return refused(401);
  if (!answer?.ok) return;
  threads = (await answer.json()).threads;
  const groups = new Map();
  for (const t of threads) {
    const name = day(new Date(t.active));
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(h("li", {}, h("a", { href: `/t/${t.id}`, "data-id": t.id, dir: "auto", title: visible(t.title) }, visible(t.title) || "Untitled")));
  }
  $("threads").replaceChildren(...[...groups].flatMap(([name, items]) => [h("h2", {}, name), h("ul", {}, ...items)]));
  if (!groups.size) $("threads").replaceChildren(h("p", { class: "no-threads" }, "Your threads will be listed here."));
  mark();
  const known = threads.find((t) => t.id === current);
  if (known) title(known.title);
}

function mark() {
  for (const link of $("threads").querySelectorAll("a")) {
    if (link.dataset.id === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function day(date) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return "This week";
  return date.toLocaleDateString([], { month: "long", year: "numeric" });
}

// On a narrow screen the list is a drawer.

function drawer(on) {
  document.body.classList.toggle("drawer", on);
  $("open-drawer").setAttribute("aria-expanded", String(on));
  $("main").inert = on;
  if (on) $("close-drawer").focus();
}
$("open-drawer").addEventListener("click", () => drawer(true));
$("close-drawer").addEventListener("click", () => {
  drawer(false);
  $("open-drawer").focus();
});
$("backdrop").addEventListener("click", () => drawer(false));
addEventListener("keydown", (e) => {
  if (e.key === "Escape" && document.body.classList.contains("drawer")) drawer(false);
});

// Links within the page, unless they are to open elsewhere.
document.addEventListener("click", (e) => {
  const link = e.target.closest("a");
  if (!link || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  if (link.matches(".new-thread, .new-thread-small")) {
    e.preventDefault();
    fresh();
  } else if (link.dataset.id) {
    e.preventDefault();
    go(link.dataset.id);
  }
});
addEventListener("popstate", () => open(decodeURIComponent(location.pathname.slice("/t/".length))));

setInterval(() => thread.tick(), 1000);
const first = document.body.dataset.thread;
history.replaceState(null, "", `/t/${first}`);
open(first);
list();
