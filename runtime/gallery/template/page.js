// The gallery: its data, its filters, its cards.

const TAGS_ON_A_CARD = 5;
const LABELS_LISTED = 100;

const byId = (id) => document.getElementById(id);
const decimal = (count) => count.toLocaleString("en");
const counted = (count, one) => `${decimal(count)} ${one}${count === 1 ? "" : "s"}`;

// ---- data -----------------------------------------------------------------------------------------------------------

/** Take the blocks of one class out of the page. */
function takeBlocks(kind) {
  return Array.from(document.querySelectorAll(`script.${kind}`), (block) => {
    block.remove();
    return JSON.parse(block.textContent);
  });
}

const about = takeBlocks("about")[0];
const labels = about.labels.map(([name, seen]) => ({ name, seen, photos: 0 }));
const photos = takeBlocks("photos").flat().map(([name, link, thumbnail, reason, pairs]) => {
  const tags = [];
  for (let at = 0; at < pairs.length; at += 2) {
    const label = labels[pairs[at]];
    label.photos += 1;
    tags.push({ label, score: pairs[at + 1] });
  }
  return { name, link, thumbnail, reason, tags };
});
const unreadable = takeBlocks("unreadable").flat().map(([name, reason]) => ({ name, reason }));
const labelsByPhotos = [...labels].sort((a, b) => b.photos - a.photos);

// ---- what a photo looks like ----------------------------------------------------------------------------------------

function picture(photo) {
  if (!photo.thumbnail) return element("span", { className: "reason" }, `no thumbnail: ${photo.reason}`);
  const words = photo.tags.map(({ label, score }) => `${label.name}${label.seen ? "" : " (unseen)"} ${score.toFixed(2)}`);
  const alt = words.length ? `photo tagged ${words.join(", ")}` : "photo without tags";
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
  const wanted = visibleTags(photo);
  const fitting = wanted.length > TAGS_ON_A_CARD ? TAGS_ON_A_CARD - 1 : TAGS_ON_A_CARD;
  const card = element(
    "button",
    { type: "button", className: "card", tabIndex: active ? 0 : -1 },
    element("span", { className: "picture" }, picture(photo)),
    element("span", { className: "name", title: photo.name }, photo.name.split("/").pop()),
    ...wanted.slice(0, fitting).map((tag) => tagLine(tag)),
  );
  if (wanted.length > fitting) card.append(element("span", { className: "faint" }, `and ${wanted.length - fitting} more`));
  if (!wanted.length) card.append(element("span", { className: "faint" }, "no tags"));
  card.addEventListener("click", () => openDetail(photo));
  return card;
}

function drawUnreadable(file) {
  return element(
    "div",
    { className: "row" },
    element("span", { className: "name", title: file.name }, file.name),
    element("span", { className: "reason", title: file.reason }, file.reason),
  );
}

function openDetail(photo) {
  const dialog = byId("detail");
  dialog.querySelector(".picture").replaceChildren(picture(photo));
  byId("detail-name").textContent = photo.name;
  dialog.querySelector("a").href = photo.link;
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

const chosen = new Set(); // labels that a photo must have
let view = "photos";

const least = () => Number(byId("least").value);
const visibleTags = (photo) => photo.tags.filter(({ score }) => score >= least());
const holds = (text, query) => text.toLowerCase().includes(query.trim().toLowerCase());

function passes(photo) {
  const tags = visibleTags(photo);
  if (least() > 0 && !tags.length) return false;
  if (byId("unseen-only").checked && tags.every(({ label }) => label.seen)) return false;
  for (const label of chosen) if (!tags.some((tag) => tag.label === label)) return false;
  return holds(photo.name, byId("name-query").value);
}

/** The score by which photos are ordered: of the chosen labels together, else the best. */
function orderingScore(photo) {
  const scores = photo.tags.filter(({ label }) => !chosen.size || chosen.has(label)).map(({ score }) => score);
  return chosen.size ? scores.reduce((sum, score) => sum + score, 0) : Math.max(0, ...scores);
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

const firstOf = (shown, all) => (shown < all ? `; the first ${decimal(shown)} are on this page` : "");

/** List the labels that fit the query, chosen ones first; returns the button of each. */
function listLabels() {
  const query = byId("label-query").value;
  const found = labelsByPhotos.filter((label) => chosen.has(label) || holds(label.name, query));
  found.sort((a, b) => chosen.has(b) - chosen.has(a));
  const buttons = new Map(found.slice(0, LABELS_LISTED).map((label) => [label, labelButton(label)]));
  byId("labels").replaceChildren(...Array.from(buttons.values(), (button) => element("li", {}, button)));
  const left = found.length - LABELS_LISTED;
  byId("labels-left").textContent = left > 0 ? `and ${counted(left, "label")} more: type to find them` : "";
  return buttons;
}

function labelButton(label) {
  const photosOfIt = element("span", { className: "score" }, decimal(label.photos));
  const button = element("button", { type: "button", "aria-pressed": chosen.has(label) }, labelName(label), photosOfIt);
  button.addEventListener("click", () => {
    if (!chosen.delete(label)) chosen.add(label);
    listLabels().get(label)?.focus(); // chosen labels stand first, so its button has moved
    showEntries();
  });
  return button;
}

function clearFilters() {
  chosen.clear();
  for (const id of ["label-query", "name-query"]) byId(id).value = "";
  byId("least").value = 0;
  byId("least-shown").textContent = "0.00";
  byId("unseen-only").checked = false;
  listLabels();
  showEntries();
}

// ---- what made the tags ---------------------------------------------------------------------------------------------

function tellRun() {
  const { run, counts } = about;
  byId("counts").textContent =
    `${counted(counts.photos, "photo")} tagged${firstOf(counts.photos_shown, counts.photos)}, ` +
    `${counted(counts.unreadable, "file")} unreadable`;
  const summary = byId("certificate").querySelector("summary");
  if (!run) {
    byId("engine").textContent = "No record of the run lay beside the tags: which engine made them is not known.";
    byId("certificate").hidden = true;
    return;
  }
  const { backend, version, provider, device, precision } = run.running;
  byId("engine").textContent =
    `${run.model}: ${run.system}, ${run.labels} labels, ${run.unseen} of them unseen (*); ` +
    `on ${backend} ${version}, ${provider} (${device}), ${precision}; tags: ${run.rule}.`;
  const certificate = run.certificate;
  if (!certificate) {
    byId("certificate").replaceWith(element("p", { id: "certificate", className: "none" }, "This engine has no certificate."));
    return;
  }
  summary.textContent =
    `Certified on ${counted(certificate.photos, "picture")}, ${certificate.made.slice(0, 10)}, ` +
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

function limit({ at_most: most, at_least: fewest, unit }) {
  if (most !== null) return `at most ${measured(most, unit)}`;
  return fewest === null ? "" : `at least ${measured(fewest, unit)}`;
}

// ---- start ----------------------------------------------------------------------------------------------------------

const grid = new VirtualGrid(byId("viewport"), byId("grid"));
const views = [["photos", counted(photos.length, "photo")], ["unreadable", `${decimal(about.counts.unreadable)} unreadable`]];
for (const [name, words] of views) {
  const button = element("button", { type: "button" }, words);
  button.dataset.view = name;
  button.addEventListener("click", () => {
    view = name;
    showEntries();
  });
  byId("views").append(button);
}
for (const id of ["name-query", "unseen-only", "order"]) byId(id).addEventListener("input", showEntries);
byId("label-query").addEventListener("input", listLabels);
byId("least").addEventListener("input", () => {
  byId("least-shown").textContent = least().toFixed(2);
  showEntries();
});
byId("clear").addEventListener("click", clearFilters);
tellRun();
listLabels();
showEntries();
