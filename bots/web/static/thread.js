// A thread as it is shown: a reader of the log that turns events, in order,
// into messages and turns. It keeps nothing that the log doesn't say, so a
// page that is loaded again looks the same.

import { h, icon, rendered, clock, visible, seconds, count, fileCard, baseName, who } from "./dom.js";
import { figure } from "./output.js";
import { Cell, draftCell } from "./cell.js";
import { Question } from "./question.js";
import { startScreen } from "./start.js";

// What is done with the events of a kind. Kinds of a later version are
// passed over.
const handlers = {
  "message": "message",
  "turn.started": "turnStarted",
  "turn.finished": "turnFinished",
  "model.reply": "reply",
  "cell.started": "cellStarted",
  "cell.output": "cellOutput",
  "cell.finished": "cellFinished",
  "file": "file",
  "question": "question",
  "notice": "notice",
};

export class Thread {
  /** on: send(text) → whether it went, title(text), busy(running), fill(text), pick(). */
  constructor(log, on) {
    this.log = log;
    this.on = on;
    this.live = false; // what was there when the page was opened has been read
    this.flow = h("div", { class: "flow" });
    this.queue = h("div", { class: "flow queue" }); // messages that no turn has read
    log.replaceChildren(this.flow, this.queue);
    log.setAttribute("aria-busy", "true");
    this.waiting = new Map(); // seq → element, of the messages in the queue
    this.chips = new Map(); // seq → its attachments' elements
    this.texts = new Map(); // seq → what was written
    this.turns = new Map();
    this.cells = new Map();
    this.questions = new Map();
    this.files = new Map(); // path → the latest file event
    this.links = []; // of replies, to files that are not known yet
    this.events = 0;
  }

  apply(ev) {
    this.events++;
    const at = Date.parse(ev.at);
    this.now = this.live ? Date.now() : at;
    const starting = this.endDraft(ev);
    this[handlers[ev.kind]]?.(ev);
    if (starting) this.showDraft(ev.turn, starting);
    if (this.live) this.update();
  }

  /** All that was in the log has been applied. */
  ready() {
    this.live = true;
    this.log.setAttribute("aria-busy", "false");
    if (this.events === 0) this.flow.replaceChildren(startScreen(this.on));
    this.update();
  }

  // The events.

  message(ev) {
    this.flow.querySelector(".start")?.remove();
    if (ev.text.trim() === "!stop" && !ev.files) {
      this.flow.append(h("p", { class: "line" }, icon("stop"), `${visible(who(ev.user))} asked to stop.`));
      return;
    }
    const files = (ev.files ?? []).map((f) => ({ name: f.name, el: f.inline ? thumbnail(f) : fileCard(f) }));
    const text = ev.text.trim() ? rendered("div", "md", ev.html) : null;
    const el = h("article", { class: "message", "aria-label": `Message from ${visible(who(ev.user))}` },
      h("div", { class: "avatar", "aria-hidden": "true" }, visible(who(ev.user)).slice(0, 1).toUpperCase()),
      h("div", { class: "body" },
        h("header", { class: "byline" }, h("strong", { dir: "auto" }, visible(who(ev.user))),
          h("time", { datetime: ev.at }, clock(ev.at)),
          h("span", { class: "queued" }, icon("clock"), "Queued")),
        text,
        files.length ? h("div", { class: "files" }, ...files.map((f) => f.el)) : null));
    this.chips.set(ev.seq, files);
    this.waiting.set(ev.seq, el);
    this.queue.append(el);
    for (const q of this.questions.values()) q.heard(ev);
    if (this.texts.size === 0) this.on.title(ev.text.trim() || ev.files?.[0]?.name || "");
    this.texts.set(ev.seq, ev.text.trim());
  }

  turnStarted(ev) {
    const upTo = Math.max(0, ...(ev.messages ?? []));
    for (const [seq, el] of this.waiting) {
      if (seq > upTo) continue;
      this.flow.append(el);
      this.waiting.delete(seq);
    }
    for (const turn of this.turns.values()) if (turn.n !== ev.turn) this.endTurn(turn);
    if (!this.turns.has(ev.turn)) this.turns.set(ev.turn, { n: ev.turn, running: true, cells: [] });
    this.turns.get(ev.turn).asked = upTo;
    for (const q of this.questions.values()) if (q.once) q.close();
  }

  reply(ev) {
    const body = this.segment(ev.turn);
    if (ev.text.trim()) {
      const el = rendered("div", "md reply", ev.html);
      body.append(el);
      this.links.push(...el.querySelectorAll(".file-link"));
      this.linkFiles();
    }
    for (const call of ev.calls ?? []) {
      const words = activity(call);
      if (words) body.append(h("p", { class: "line" }, icon("eye"), words));
    }
  }

  cellStarted(ev) {
    const cell = new Cell(ev, this.now);
    this.cells.set(ev.cell, cell);
    this.turns.get(ev.turn)?.cells.push(cell);
    this.segment(ev.turn).append(cell.el);
  }

  cellOutput(ev) {
    this.cells.get(ev.cell)?.output(ev, this.live);
  }

  cellFinished(ev) {
    this.cells.get(ev.cell)?.finish(ev);
  }

  file(ev) {
    this.files.set(ev.path, ev);
    this.linkFiles();
    if (ev.message) {
      // It came with a message; only a new name is news.
      const name = baseName(ev.path);
      const chips = this.chips.get(ev.message) ?? [];
      const chip = chips.find((c) => !c.path && (c.name === name || name.startsWith(c.name.replace(/\.[^.]*$/, ""))));
      if (chip) chip.path = ev.path;
      if (chip && chip.name !== name) chip.el.append(h("span", { class: "file-size" }, `saved as ${visible(name)}`));
      return;
    }
    const cell = this.cells.get(ev.cell);
    if (cell) return cell.file(ev);
    const name = baseName(ev.path);
    const card = fileCard({ name, size: ev.size, url: ev.url, title: ev.title });
    const shown = ev.inline ? h("div", { class: "file-figure" }, figure(ev.url, ev.title || name), card) : card;
    const body = this.segment(ev.turn);
    if (!body.lastElementChild?.matches(".files")) body.append(h("div", { class: "files" }));
    body.lastElementChild.append(shown);
  }

  question(ev) {
    const known = this.questions.get(ev.id);
    if (ev.answer) {
      known?.answer(ev.answer, ev.by);
      return;
    }
    const q = new Question(ev, (option) => this.on.send(option));
    this.questions.set(ev.id, q);
    this.segment(ev.turn).append(q.el);
  }

  notice(ev) {
    const line = h("div", { class: "line notice" }, icon("info"), rendered("div", "md", ev.html));
    if (ev.turn) this.segment(ev.turn).append(line);
    else this.flow.append(line);
  }

  turnFinished(ev) {
    const turn = this.turns.get(ev.turn);
    if (!turn) return;
    const body = this.segment(ev.turn);
    this.endTurn(turn);
    const used = ev.tokens ?? {};
    const facts = [seconds(ev.seconds ?? 0)];
    if (used.in || used.out) facts.push(`${count((used.in ?? 0) + (used.out ?? 0))} tokens`);
    if (ev.cost_usd) facts.push(`$${ev.cost_usd.toFixed(ev.cost_usd < 0.1 ? 3 : 2)}`);
    const words = { ok: "", failed: "This turn failed", stopped: "Stopped", over_budget: "Stopped at the budget's limit", timeout: "Stopped at the time limit" };
    const word = words[ev.status] ?? ev.status;
    const foot = h("footer", { class: `turn-foot ${ev.status === "ok" ? "ok" : "bad"}` },
      h("span", { class: "facts" }, icon(ev.status === "ok" ? "check" : ev.status === "stopped" ? "stop" : "alert"), word ? h("strong", {}, word) : null,
        h("span", { title: used.in ? `${count(used.in)} read, of these ${count(used.cached ?? 0)} from its cache, and ${count(used.out ?? 0)} written` : null }, facts.join(" · "))));
    if (ev.status === "failed" || ev.status === "timeout") {
      const text = this.texts.get(turn.asked) || "Please try again.";
      foot.append(h("button", { type: "button", class: "quiet retry", onclick: async ({ currentTarget: button }) => {
        button.disabled = true;
        if (await this.on.send(text)) button.remove();
        else button.disabled = false;
      } }, icon("again"), "Try again"));
    }
    body.append(foot);
  }

  // What the model is writing.

  draft(d) {
    if (!this.turns.get(d.turn)?.running) return;
    const parts = [];
    if (d.html) parts.push(rendered("div", "md reply writing", d.html));
    if (d.code_html) parts.push(draftCell(d.code_html));
    this.showDraft(d.turn, ...parts);
    const code = this.log.querySelector(".draft .tail");
    if (code) code.scrollTop = code.scrollHeight;
    this.update();
  }

  showDraft(n, ...parts) {
    const turn = this.turns.get(n);
    turn.draft ??= h("div", { class: "draft", "aria-live": "off" });
    turn.draft.replaceChildren(...parts);
    this.segment(n).append(turn.draft);
  }

  // The log has what was a draft. Only the cell that was being written stays
  // in view until it starts, which takes a moment where its sandbox has to
  // wake.
  endDraft(ev) {
    const turn = this.turns.get(ev.turn);
    if (!turn?.draft) return null;
    const cell = turn.draft.querySelector(".draft-cell");
    turn.draft.remove();
    turn.draft = null;
    if (!cell || ev.kind !== "model.reply" || !ev.calls?.some((call) => call.name === "run_code")) return null;
    cell.querySelector(".cell-state").lastChild.data = "Starting";
    return cell;
  }

  // Places.

  /** The end of the turn's part of the thread, opened anew after a message.
   * What belongs to no turn is put in one of its own. */
  segment(n = 0) {
    const last = this.flow.lastElementChild;
    if (last?.dataset.turn === String(n)) return last.lastElementChild;
    const first = !n || !this.flow.querySelector(`:scope > [data-turn="${n}"]`);
    const body = h("div", { class: "body" });
    if (first) body.append(h("header", { class: "byline" }, h("strong", {}, "threadbook")));
    const mark = h("div", { class: `avatar bot${first ? "" : " again"}`, "aria-hidden": "true" });
    this.flow.append(h("article", { class: "turn", "data-turn": n, "aria-label": "Answer" }, mark, body));
    return body;
  }

  endTurn(turn) {
    if (!turn.running) return;
    turn.running = false;
    turn.draft?.remove();
    turn.draft = null;
    turn.wait?.remove();
    for (const cell of turn.cells) cell.abandon();
  }

  get running() {
    return [...this.turns.values()].find((turn) => turn.running);
  }

  /** Keeps the line that says what is going on where it belongs. */
  update() {
    const turn = this.running;
    if (turn) {
      const showing = turn.draft?.childElementCount || turn.cells.some((cell) => cell.running);
      if (showing) turn.wait?.remove();
      else {
        turn.wait ??= h("p", { class: "working", "aria-hidden": "true" }, h("span", { class: "dots" }, h("i"), h("i"), h("i")), "Working");
        const body = this.segment(turn.n);
        if (body.lastElementChild !== turn.wait) body.append(turn.wait);
      }
      for (const segment of this.flow.querySelectorAll(`:scope > [data-turn]`)) {
        segment.classList.toggle("active", segment.dataset.turn === String(turn.n));
      }
    } else this.flow.querySelector(":scope > .active")?.classList.remove("active");
    this.on.busy(Boolean(turn));
  }

  tick() {
    const now = Date.now();
    for (const cell of this.running?.cells ?? []) cell.tick(now);
  }

  // Models name files by addresses of their own making. Those that the
  // thread has become downloads.
  linkFiles() {
    this.links = this.links.filter((span) => {
      const path = span.dataset.path;
      const ev = this.files.get(path) ?? [...this.files.values()].find((f) => baseName(f.path) === baseName(path));
      if (!ev?.url) return true;
      const link = h("a", { href: ev.url, download: baseName(ev.path) });
      link.append(...span.childNodes);
      span.replaceWith(link);
      return false;
    });
  }
}

// What a call of a tool that runs no code is about.
function activity(call) {
  const named = () => {
    try {
      return visible(baseName(String(JSON.parse(call.arguments).path ?? ""))) || "a file";
    } catch {
      return "a file";
    }
  };
  switch (call.name) {
    case "list_files": return "Looked through the files";
    case "read_file": return `Read ${named()}`;
    default: return ""; // the others show in the log themselves
  }
}

const thumbnail = (f) => h("div", { class: "file-figure small" }, figure(f.url, visible(f.name)), fileCard(f));
