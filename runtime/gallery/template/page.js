// The gallery: data, cards, filters, and the record of the run.

const TAGS_ON_A_CARD = 5;
const LABELS_LISTED = 100;

const byId = (id) => document.getElementById(id);
const decimal = (count) => count.toLocaleString("en");
const counted = (count, one) => `${decimal(count)} ${one}${count === 1 ? "" : "s"}`;

// ---- data -----------------------------------------------------------------------------------------------------------

/** Remove the data blocks of one class from the page and return their content. */
function takeBlocks(kind) {
  return Array.from(document.querySelectorAll(`script.${kind}`), (block) => {
    block.remove();
    return JSON.parse(block.textContent);
  });
}

const about = takeBlocks("about")[0];
const labels = about.labels.map(([name, seen]) => ({ name, seen, photos: 0 }));
const photos = takeBlocks("photos").flat().map(([name, link, thumbnail, error, pairs]) => {
  const tags = [];
  for (let i = 0; i < pairs.length; i += 2) {
    const label = labels[pairs[i]];
    label.photos += 1;
    tags.push({ label, score: pairs[i + 1] });
  }
  return { name, link, thumbnail, error, tags };
});
const unreadable = takeBlocks("unreadable").flat().map(([name, error]) => ({ name, error }));
const labelsByPhotos = [...labels].sort((a, b) => b.photos - a.photos);

// ---- cards ----------------------------------------------------------------------------------------------------------

function picture(photo) {
  if (!photo.thumbnail) return element("span", { className: "error" }, `no thumbnail: ${photo.error}`);
  const tags = photo.tags.map(({ label, score }) => `${label.name}${label.seen ? "" : " (unseen)"} ${score.toFixed(2)}`);
  const alt = tags.length ? `photo tagged ${tags.join(", ")}` : "photo without tags";
  return element("img", { src: `data:image/jpeg;base64,${photo.thumbnail}`, alt, decoding: "async" });
}

function labelName(label) {
  if (label.seen) return element("span", { className: "label" }, label.name);
  return element("span", { className: "label unseen", title: "never seen in training" }, `${label.name} *`);
}

function tagLine({ label, score }, ...between) {
  const number = element("span", { className: "score" }, score.toFixed(2));
  return element("span", { className: "tag" }, labelName(label), ...between, number);
}

function drawCard(photo, active) {
  const tags = visibleTags(photo);
  const shown = tags.length > TAGS_ON_A_CARD ? TAGS_ON_A_CARD - 1 : TAGS_ON_A_CARD;
  const card = element(
    "button",
    { type: "button", className: "card", tabIndex: active ? 0 : -1 },
    element("span", { className: "picture" }, picture(photo)),
    element("span", { className: "name", title: photo.name }, photo.name.split("/").pop()),
    ...tags.slice(0, shown).map((tag) => tagLine(tag)),
  );
  if (tags.length > shown) card.append(element("span", { className: "faint" }, `and ${tags.length - shown} more`));
  if (!tags.length) card.append(element("span", { className: "faint" }, "no tags"));
  card.addEventListener("click", () => openDetail(photo));
  return card;
}

function drawUnreadable(file) {
  return element(
    "div",
    { className: "row" },
    element("span", { className: "name", title: file.name }, file.name),
    element("span", { className: "error", title: file.error }, file.error),
  );
}

function openDetail(photo) {
  const dialog = byId("detail");
  dialog.querySelector(".picture").replaceChildren(picture(photo));
  byId("detail-name").textContent = photo.name;
  const link = dialog.querySelector("a");
  link.href = photo.link;
  link.hidden = !photo.link; // a photo in an archive is no file
  dialog.querySelector(".tags").replaceChildren(
    ...photo.tags.map((tag) => {
      const length = element("span");
      length.style.width = `${100 * tag.score}%`;
      const bar = element("span", { className: tag.label.seen ? "bar" : "bar of-unseen" }, length);
      return element("li", {}, tagLine(tag, bar));
    }),
  );
  dialog.showModal();
}

// ---- filters --------------------------------------------------------------------------------------------------------

const selected = new Set(); // labels that a photo must have
let view = "photos";

const minScore = () => Number(byId("min-score").value);
const visibleTags = (photo) => photo.tags.filter(({ score }) => score >= minScore());
const contains = (text, query) => text.toLowerCase().includes(query.trim().toLowerCase());

function passes(photo) {
  const tags = visibleTags(photo);
  if (minScore() > 0 && !tags.length) return false;
  if (byId("unseen-only").checked && tags.every(({ label }) => label.seen)) return false;
  for (const label of selected) if (!tags.some((tag) => tag.label === label)) return false;
  return contains(photo.name, byId("name-query").value);
}

/** The score by which photos are sorted: the sum over the selected labels, or the best score. */
function orderingScore(photo) {
  const scores = photo.tags.filter(({ label }) => !selected.size || selected.has(label)).map(({ score }) => score);
  return selected.size ? scores.reduce((sum, score) => sum + score, 0) : Math.max(0, ...scores);
}

function showEntries() {
  const files = view === "unreadable";
  byId("filters").hidden = files;
  for (const button of byId("views").children) button.setAttribute("aria-pressed", button.dataset.view === view);
  if (files) {
    const { unreadable: all, unreadable_shown: shown } = about.counts;
    byId("status").textContent = `${counted(all, "file")} could not be read` + firstOf(shown, all);
    grid.show(unreadable, ROW, drawUnreadable, "Unreadable files");
    return;
  }
  let found = photos.filter(passes);
  if (byId("order").value === "score") {
    const scored = found.map((photo) => [orderingScore(photo), photo]);
    found = scored.sort((a, b) => b[0] - a[0]).map(([, photo]) => photo);
  }
  byId("status").textContent = `${decimal(found.length)} of ${counted(photos.length, "photo")}`;
  grid.show(found, CARD, drawCard, "Photos");
}

const firstOf = (shown, all) => (shown < all ? `; this page shows the first ${decimal(shown)}` : "");

/** List the labels that match the query, selected ones first; returns the button of each. */
function listLabels() {
  const query = byId("label-query").value;
  const found = labelsByPhotos.filter((label) => selected.has(label) || contains(label.name, query));
  found.sort((a, b) => selected.has(b) - selected.has(a));
  const buttons = new Map(found.slice(0, LABELS_LISTED).map((label) => [label, labelButton(label)]));
  byId("labels").replaceChildren(...Array.from(buttons.values(), (button) => element("li", {}, button)));
  const more = found.length - LABELS_LISTED;
  byId("more-labels").textContent = more > 0 ? `and ${counted(more, "more label")}: type to find them` : "";
  return buttons;
}

function labelButton(label) {
  const count = element("span", { className: "score" }, decimal(label.photos));
  const button = element("button", { type: "button", "aria-pressed": selected.has(label) }, labelName(label), count);
  button.addEventListener("click", () => {
    if (!selected.delete(label)) selected.add(label);
    listLabels().get(label)?.focus(); // selected labels come first, so its button has moved
    showEntries();
  });
  return button;
}

function clearFilters() {
  selected.clear();
  for (const id of ["label-query", "name-query"]) byId(id).value = "";
  byId("min-score").value = 0;
  byId("min-score-shown").textContent = "0.00";
  byId("unseen-only").checked = false;
  listLabels();
  showEntries();
}

// ---- record of the run ----------------------------------------------------------------------------------------------

function showRun() {
  const { run, counts } = about;
  byId("counts").textContent =
    `${counted(counts.photos, "photo")} tagged${firstOf(counts.photos_shown, counts.photos)}, ` +
    `${counted(counts.unreadable, "file")} unreadable`;
  const summary = byId("certificate").querySelector("summary");
  if (!run) {
    byId("engine").textContent = "The tags have no record of their run, so their engine is unknown.";
    byId("certificate").hidden = true;
    return;
  }
  const { backend, version, provider, device, precision } = run.execution;
  byId("engine").textContent =
    `${run.file}: ${run.model}, ${run.labels} labels, ${run.unseen} of them unseen (*); ` +
    `on ${backend} ${version}, ${provider} (${device}), ${precision}; tags: ${run.rule}.`;
  const certificate = run.certificate;
  if (!certificate) {
    byId("certificate").replaceWith(element("p", { id: "certificate", className: "none" }, "This engine has no certificate."));
    return;
  }
  summary.textContent =
    `Certified on ${counted(certificate.photos, "image")}, ${certificate.made.slice(0, 10)}, ` +
    `with ${certificate.backend} ${certificate.version} on ${certificate.device}, against ${certificate.reference}`;
  const rows = certificate.checks.flatMap((check) =>
    check.measurements.map((found) =>
      element(
        "tr", {},
        element("th", { scope: "row" }, `${check.name}: ${found.name}`),
        element("td", {}, measured(found.value, found.unit)),
        element("td", { className: "faint" }, limit(found)),
      ),
    ),
  );
  byId("certificate").querySelector("div").append(element("table", {}, ...rows));
}

const measured = (value, unit) => (unit ? `${value.toFixed(2)} ${unit}` : value ? value.toExponential(1) : "0");

function limit({ at_most: atMost, at_least: atLeast, unit }) {
  if (atMost !== null) return `at most ${measured(atMost, unit)}`;
  return atLeast === null ? "" : `at least ${measured(atLeast, unit)}`;
}

// ---- start ----------------------------------------------------------------------------------------------------------

const grid = new VirtualGrid(byId("viewport"), byId("grid"));
const views = [["photos", counted(photos.length, "photo")], ["unreadable", `${decimal(about.counts.unreadable)} unreadable`]];
for (const [name, text] of views) {
  const button = element("button", { type: "button" }, text);
  button.dataset.view = name;
  button.addEventListener("click", () => {
    view = name;
    showEntries();
  });
  byId("views").append(button);
}
for (const id of ["name-query", "unseen-only", "order"]) byId(id).addEventListener("input", showEntries);
byId("label-query").addEventListener("input", listLabels);
byId("min-score").addEventListener("input", () => {
  byId("min-score-shown").textContent = minScore().toFixed(2);
  showEntries();
});
byId("clear").addEventListener("click", clearFilters);
showRun();
listLabels();
showEntries();
