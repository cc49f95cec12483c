// The case browser: filters, search and pages over the JSON beside it. What a model or a dataset wrote reaches the page
// through textContent only, so that it stays text; markup is made by `make` alone.
(() => {
  const place = document.getElementById("browser");
  const source = document.getElementById("cases-data");
  if (!place || !source) return;
  const data = JSON.parse(source.textContent);
  const EACH = 10;
  const MARKS = ["✗ wrong", "✓ right", "? unparsed"];
  const CLASSES = ["wrong", "right", "unparsed"];
  const text = (number) => data.texts[number];
  const [SPLIT, SPECIALTY, TOPIC, MODALITY, KIND, ID, QUESTION, OPTIONS, ANSWER, EXPLANATION, IMAGE, REPLIES] = Array(12).keys();
  const [THINKING, GIVEN, STATE, JUDGED] = Array(4).keys();

  const make = (tag, properties = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  // a block or a phrase of foreign text, in its own direction
  const said = (value, className = "") => make("p", { className: `said ${className}`.trim(), dir: "auto", textContent: value });
  const quoted = (value) => make("bdi", { textContent: value });

  // --- which cases ---
  const searched = data.cases.map((each) =>
    [each[ID], each[TOPIC], each[QUESTION], ...each[OPTIONS], each[ANSWER], ...each[REPLIES].flatMap((r) => (r ? [r[THINKING], r[GIVEN]] : []))]
      .map(text).join("\n").toLowerCase());
  const states = (each, arm) => each[REPLIES].filter((reply, index) => reply && (arm < 0 || arm === index)).map((reply) => reply[STATE]);
  const differ = (values) => values.some((value) => value !== values[0]);
  const outcomes = {
    any: () => true,
    right: (found) => found.length > 0 && found.every((state) => state === 1),
    wrong: (found) => found.length > 0 && found.every((state) => state !== 1),
    unparsed: (found) => found.includes(2),
  };
  const disputes = {
    any: () => true,
    arms: (each) => differ(states(each, -1).map((state) => state === 1)),
    judge: (each, arm) => each[REPLIES].some((reply, index) => reply && (arm < 0 || arm === index) &&
      reply[JUDGED].some((one) => one[1] !== null && (one[1] === 1) !== (reply[STATE] === 1))),
    reasoning: (each, arm) => each[REPLIES].some((reply, index) => reply && (arm < 0 || arm === index) &&
      reply[STATE] === 1 && reply[JUDGED].some((one) => one[2] === 0)),
  };

  // --- the controls ---
  const select = (label, options) => {
    const made = make("select", {}, ...options.map(([value, name]) => make("option", { value, textContent: name })));
    return [made, make("label", {}, make("span", { textContent: label }), made)];
  };
  const found = (field) => [...new Set(data.cases.map((each) => text(each[field])))].sort();
  const named = (field, all) => [["", all], ...found(field).map((name) => [name, name])];
  const [arm, armLabel] = select("Arm", [["-1", "all arms"], ...data.arms.map(([, title], index) => [String(index), title])]);
  const [outcome, outcomeLabel] = select("Outcome", [["any", "any"], ["right", "right"], ["wrong", "wrong or unparsed"], ["unparsed", "unparsed"]]);
  const [dispute, disputeLabel] = select("Disagreement", [["any", "any"], ["arms", "arms disagree"],
    ["judge", "a judge and the verifier"], ["reasoning", "right, but reasoning scored 0"]]);
  const [specialty, specialtyLabel] = select("Specialty", named(SPECIALTY, "all"));
  const [split, splitLabel] = select("Set", named(SPLIT, "all"));
  const [modality, modalityLabel] = select("Modality", named(MODALITY, "all"));
  const search = make("input", { type: "search", placeholder: "words in question, thinking, answer", autocomplete: "off", spellcheck: false });
  const controls = make("div", { className: "controls", role: "search", "aria-label": "Which cases" },
    armLabel, outcomeLabel, disputeLabel, specialtyLabel, splitLabel, modalityLabel,
    make("label", { className: "wide" }, make("span", { textContent: "Search" }), search));
  const told = make("p", { className: "told", role: "status", "aria-live": "polite" });
  const back = make("button", { type: "button", textContent: "← Previous" });
  const next = make("button", { type: "button", textContent: "Next →" });
  const clear = make("button", { type: "button", textContent: "Clear filters" });
  const bar = make("div", { className: "pager" }, back, next, clear, told);
  const list = make("div", { className: "cases" });
  const below = make("button", { type: "button", textContent: "Next →" });
  place.replaceChildren(controls, bar, list, make("div", { className: "pager" }, below));

  // --- one case ---
  const judged = ([judge, final, reasoning, why]) => {
    const score = (value) => (value === null ? "–" : String(value));
    const line = make("p", { className: "soft small" });
    line.append(`${data.judges[judge]}: final ${score(final)}, reasoning ${score(reasoning)}. `, quoted(text(why)));
    return line;
  };
  const replied = (reply, index, open) => {
    const head = make("summary", {}, make("span", { className: "arm", textContent: data.arms[index][1] }),
      make("span", { className: "mark", textContent: MARKS[reply[STATE]] }), make("span", { className: "gist", dir: "auto" }, quoted(text(reply[GIVEN]) || "(none)")));
    const made = make("details", { className: `reply ${CLASSES[reply[STATE]]}`, open }, head);
    const fill = () => {
      if (made.childElementCount > 1) return;
      const answer = make("p", { className: "answer" }, "Answer: ", quoted(text(reply[GIVEN]) || "(none)"));
      made.append(said(text(reply[THINKING]) || "(no thinking)", "soft"), answer, ...reply[JUDGED].map(judged));
    };
    if (open) fill();
    made.addEventListener("toggle", fill);
    return made;
  };
  const shown = (each, number) => {
    const title = `${number}. ${text(each[SPECIALTY])}: ${text(each[TOPIC])}`;
    const facts = [each[SPLIT], each[MODALITY], each[KIND]].map(text).join(" · ");
    const body = make("div", {}, said(text(each[QUESTION])));
    if (each[OPTIONS].length) body.append(make("ul", { className: "options" }, ...each[OPTIONS].map((one) => make("li", { dir: "auto", textContent: text(one) }))));
    body.append(make("p", { className: "reference" }, make("b", { textContent: "Reference " }), quoted(text(each[ANSWER]))));
    if (text(each[EXPLANATION])) body.append(said(text(each[EXPLANATION]), "soft small"));
    const ask = make("div", { className: "ask" });
    const image = Object.hasOwn(data.images, text(each[IMAGE])) ? data.images[text(each[IMAGE])] : "";
    if (image) ask.append(make("img", { src: image, alt: "image of this question", width: 150 }));
    else if (text(each[IMAGE])) body.append(make("p", { className: "missing small", textContent: "Its image cannot be shown." }));
    ask.append(body);
    const chosen = Number(arm.value);
    const replies = each[REPLIES].map((reply, index) => reply && (chosen < 0 || chosen === index) ? replied(reply, index, chosen === index) : null);
    return make("article", { className: "case" }, make("h3", { dir: "auto", textContent: title }),
      make("p", { className: "soft small", dir: "auto" }, `${facts} · `, quoted(text(each[ID]))), ask,
      make("div", { className: "told-by" }, ...replies.filter(Boolean)));
  };

  // --- pages ---
  let matching = [];
  let page = 0;
  const pages = () => Math.max(1, Math.ceil(matching.length / EACH));
  const draw = () => {
    page = Math.min(Math.max(page, 0), pages() - 1);
    const from = page * EACH;
    list.replaceChildren(...matching.slice(from, from + EACH).map((index, place) => shown(data.cases[index], from + place + 1)));
    back.disabled = page === 0;
    next.disabled = below.disabled = page >= pages() - 1;
    below.hidden = pages() === 1;
    told.textContent = matching.length ? `${matching.length} of ${data.cases.length} questions · page ${page + 1} of ${pages()}`
      : `No question of ${data.cases.length} matches: clear a filter.`;
  };
  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const one = Number(arm.value);
    matching = data.cases.flatMap((each, index) =>
      (!specialty.value || text(each[SPECIALTY]) === specialty.value) &&
      (!split.value || text(each[SPLIT]) === split.value) &&
      (!modality.value || text(each[MODALITY]) === modality.value) &&
      outcomes[outcome.value](states(each, one)) && disputes[dispute.value](each, one) &&
      wanted.every((word) => searched[index].includes(word)) ? [index] : []);
    page = 0;
    draw();
  };
  const turn = (by, up) => {
    page += by;
    draw();
    if (up) place.scrollIntoView({ block: "start" });
  };
  [arm, outcome, dispute, specialty, split, modality].forEach((each) => each.addEventListener("change", filter));
  search.addEventListener("input", filter);
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  below.addEventListener("click", () => turn(1, true));
  clear.addEventListener("click", () => {
    [arm, outcome, dispute, specialty, split, modality].forEach((each) => (each.selectedIndex = 0));
    search.value = "";
    filter();
  });
  place.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft" || event.key === "p") turn(-1, true);
    else if (event.key === "ArrowRight" || event.key === "n") turn(1, true);
    else if (event.key === "/") search.focus();
    else return;
    event.preventDefault();
  });
  window.addEventListener("beforeprint", () => list.querySelectorAll("details").forEach((each) => each.dispatchEvent(new Event("toggle"))));
  filter();
})();
