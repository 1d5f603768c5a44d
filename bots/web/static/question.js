// A question to the people of the thread, with its answers as buttons.

import { h, icon, rendered, visible, who } from "./dom.js";

// A question of a turn is answered once. One that no turn asks is a list of
// suggestions, each of which can be taken up.
export class Question {
  constructor(ev, send) {
    this.open = true;
    this.once = Boolean(ev.turn);
    this.buttons = (ev.options ?? []).map((option) =>
      h("button", { type: "button", class: "option", dir: "auto", onclick: async ({ currentTarget: button }) => {
        button.disabled = true;
        if (await send(option)) this.answer(option);
        else button.disabled = false;
      } }, visible(option)));
    this.options = ev.options ?? [];
    this.el = h("section", { class: "question", "aria-label": "Question" },
      ev.html ? rendered("div", "md", ev.html) : null,
      this.buttons.length ? h("div", { class: "options" }, ...this.buttons) : null);
  }

  heard({ text, user }) {
    if (this.open && this.options.includes(text.trim())) this.answer(text.trim(), user);
  }

  answer(answer, by) {
    if (this.once) this.close();
    const chosen = this.buttons[this.options.indexOf(answer)];
    if (!chosen) {
      this.el.querySelector(".answer")?.remove();
      this.el.append(h("p", { class: "answer", dir: "auto" }, icon("check"), visible(answer)));
    } else if (!chosen.classList.contains("chosen")) {
      chosen.disabled = true;
      chosen.classList.add("chosen");
      chosen.prepend(icon("check"));
    }
    if (by) (chosen ?? this.el.lastElementChild).title = `Answered by ${visible(who(by))}`;
  }

  close() {
    this.open = false;
    for (const button of this.buttons) button.disabled = true;
  }
}
