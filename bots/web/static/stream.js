// The connection to a thread's log: it comes back by itself, asks for what
// comes after the last event it has seen, and says how it is doing.

const firstWait = 500; // ms until the first try after a cut; doubled each time
const longestWait = 15_000;

export class Stream {
  /** on: event(ev), draft(d), ready(), state("live" | "lost"), refused(status). */
  constructor(thread, on) {
    this.url = `/api/threads/${encodeURIComponent(thread)}/events`;
    this.on = on;
    this.after = 0;
    this.wait = firstWait;
    this.open();
  }

  open() {
    this.source = new EventSource(`${this.url}?after=${this.after}`);
    this.source.onopen = () => {
      this.wait = firstWait;
      this.on.state("live");
    };
    this.source.onmessage = ({ data }) => {
      const ev = JSON.parse(data);
      if (ev.seq <= this.after) return;
      this.after = ev.seq;
      this.on.event(ev);
    };
    this.source.addEventListener("draft", ({ data }) => this.on.draft(JSON.parse(data)));
    this.source.addEventListener("ready", () => this.on.ready());
    this.source.onerror = () => this.lost();
  }

  // The browser would come back by itself after a cut, but not after an
  // answer such as 503, and it can't tell a login that has ended.
  async lost() {
    this.pause();
    this.on.state("lost");
    this.timer = setTimeout(() => this.open(), this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(this.wait * 2, longestWait);
    const answer = await fetch("/api/threads").catch(() => null);
    if (answer && (answer.status === 401 || answer.status === 403)) this.on.refused(answer.status);
  }

  /** Tries now, where it waits for its next try or was paused. */
  resume() {
    if (this.source || this.closed) return;
    clearTimeout(this.timer);
    this.open();
  }

  pause() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  close() {
    this.closed = true;
    this.pause();
  }
}
