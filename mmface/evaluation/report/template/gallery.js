// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
'use strict';
// The three galleries and the viewer. Uses what report.js defines.

const PAGE = 24;
const view = {
  worst: { d: 0, boxes: true, group: '', value: '', text: '', size: PAGE },
  false: { d: 0, kind: '', size: PAGE },
  faces: { mode: 'missed 0', group: '', value: '', size: PAGE },
};
const CROP = 2.2; // as in thumbnails.py

const thumb = (image) => `thumbs/${image}.jpg`;
const facesOf = (image) => Array.from({ length: R.splits[image + 1] - R.splits[image] }, (_, i) => R.splits[image] + i);
const inSlice = (face, group, value) => !group || R.groups[group].values[R.groups[group].code[face]] === value;

// Labelled faces and detections of an image, at the chosen thresholds.
function boxesOf(image, detectors) {
  const list = [];
  for (const face of facesOf(image)) {
    const hit = detectors.every((d) => found(d, face));
    list.push({ box: R.faces.box[face], class: `box ${counts(face) ? (hit ? 'found' : 'missed') : 'ignored'}`, title: counts(face) ? (hit ? 'found' : 'missed') : 'ignored' });
  }
  for (const d of detectors) {
    for (const [x, y, w, h, score, bin] of R.shown[image].boxes[D[d].name]) {
      if (bin <= state.bins[d]) list.push({ box: [x, y, w, h], class: 'box', stroke: colour(d), 'stroke-width': 1.8, title: `${D[d].name} ${score}` });
    }
  }
  return list;
}

function errorsOf(image, d) {
  const missed = facesOf(image).filter((face) => counts(face) && !found(d, face)).length;
  const all = R.shown[image].boxes[D[d].name];
  const wrong = all.filter((box) => box[6] === 2 && box[5] <= state.bins[d]).length;
  const cut = all.length === R.max_boxes && all[all.length - 1][5] <= state.bins[d];
  return { missed, wrong: cut ? `${wrong} or more` : wrong };
}

function thumbnail(card, image, list) {
  const pic = add(card, 'span', { class: 'pic' });
  const own = R.shown[image];
  if (!own.size) { add(pic, 'span', { class: 'empty' }, 'no image'); return; }
  const box = add(pic, 'span', { class: 'frame', style: `--r:${own.size[0] / own.size[1]}` });
  add(box, 'img', { src: thumb(image), alt: '', loading: 'lazy' });
  if (list.length) overlay(box, [0, 0, ...own.size], list);
}

function cut(card, file, box, look) {
  const pic = add(card, 'span', { class: 'pic square' });
  add(pic, 'img', { src: `crops/${file}.jpg`, alt: '', loading: 'lazy' });
  const side = Math.max(8, CROP * Math.max(box[2], box[3]));
  overlay(pic, [box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2, side, side], [{ box, ...look }]);
}

function fill(id, own, items, draw) {
  const grid = $(`${id}-grid`);
  grid.replaceChildren();
  grid.dataset.count = items.length;
  $(`${id}-more`)?.remove();
  if (!items.length) add(grid, 'p', { class: 'empty' }, 'None at these thresholds and filters.');
  items.slice(0, own.size).forEach((item, place) => draw(grid, item, place));
  if (items.length > own.size) {
    add(grid.parentNode, 'button', { type: 'button', class: 'more', id: `${id}-more`, onclick: () => { own.size += PAGE; galleries(); } }, `show more (${items.length - own.size} left)`);
  }
}

function worst() {
  const own = view.worst;
  const images = R.examples.images[D[own.d].name].filter((image) =>
    (!own.text || R.images[image].toLowerCase().includes(own.text.toLowerCase())) &&
    (!own.group || facesOf(image).some((face) => counts(face) && inSlice(face, own.group, own.value))));
  fill('worst', own, images, (grid, image, place) => {
    const card = add(grid, 'button', { type: 'button', class: 'card', onclick: () => open(images, place, [own.d]) });
    thumbnail(card, image, own.boxes ? boxesOf(image, [own.d]) : []);
    const { missed, wrong } = errorsOf(image, own.d);
    const text = add(card, 'span', { class: 'text' });
    add(text, 'b', {}, `${missed} missed, ${wrong} false`);
    add(text, 'span', { class: 'quiet', title: R.images[image] }, R.images[image].split('/').pop());
  });
}

function falseFinds() {
  const own = view.false;
  const finds = R.examples.false_finds[D[own.d].name].filter((find) => find.bin <= state.bins[own.d] && (!own.kind || KIND_NAMES[find.kind] === own.kind));
  const images = finds.map((find) => find.image);
  fill('false', own, finds, (grid, find, place) => {
    const card = add(grid, 'button', { type: 'button', class: 'card', onclick: () => open(images, place, [own.d]) });
    cut(card, `find_${own.d}_${find.id}`, find.box, { class: 'box', stroke: colour(own.d), 'stroke-width': 1.5 });
    const text = add(card, 'span', { class: 'text' });
    add(text, 'b', {}, fixed(find.score, 3));
    text.append(` ${KINDS[KIND_NAMES[find.kind]][0]}`);
  });
}

function faces() {
  const own = view.faces;
  const [mode, a, b] = own.mode.split(' ');
  const wanted = {
    missed: (face) => !found(a, face),
    only: (face) => found(a, face) && !found(b, face),
    all: (face) => D.every((_, d) => !found(d, face)),
  }[mode];
  const shown = R.examples.faces.filter((face) => counts(face) && wanted(face) && inSlice(face, own.group, own.value));
  const images = shown.map((face) => imageOf[face]);
  const detectors = mode === 'missed' ? [Number(a)] : mode === 'only' ? [Number(a), Number(b)] : D.map((_, d) => d);
  fill('faces', own, shown, (grid, face, place) => {
    const card = add(grid, 'button', { type: 'button', class: 'card', onclick: () => open(images, place, detectors) });
    cut(card, `face_${face}`, R.faces.box[face], { class: 'box missed' });
    const text = add(card, 'span', { class: 'text' });
    add(text, 'b', {}, `${Math.round(R.faces.box[face][3])} px`);
    const about = Object.keys(R.groups).filter((g) => ['blur', 'occlusion', 'pose', 'illumination'].includes(g)).map((g) => [g, R.groups[g].values[R.groups[g].code[face]]]).filter(([, v]) => !['clear', 'none', 'typical', 'normal'].includes(v)).map(([g, v]) => `${v} ${g}`);
    text.append(about.length ? ` ${about.join(', ')}` : '');
  });
}

// Also called by report.js when a threshold changes, with or without images.
function galleries() {
  if (!hasImages) return;
  worst(); falseFinds(); faces();
  if ($('viewer').open) draw();
}

// Filters by slice: a group, then one of its values.
function sliceFilter(parent, own) {
  const values = select(parent, '', [['', 'all']], (value) => { own.value = value; own.size = PAGE; galleries(); });
  values.setAttribute('aria-label', 'Kind');
  const groups = select(parent, 'only', [['', 'all kinds'], ...Object.keys(R.groups).map((g) => [g, g])], (group) => {
    own.group = group;
    values.replaceChildren();
    for (const value of group ? R.groups[group].values : ['all']) add(values, 'option', { value }, value);
    own.value = values.value;
    own.size = PAGE;
    galleries();
  });
  groups.parentNode.after(values.parentNode);
}

function tools() {
  const chooser = (id, own) => {
    if (!SEVERAL) return;
    segments(add($(`${id}-tools`), 'div', { class: 'segments', role: 'group', 'aria-label': 'Detector' }), D.map((d, i) => [i, d.name]), own.d, (value) => { own.d = value; own.size = PAGE; galleries(); });
  };
  chooser('worst', view.worst);
  const toggle = add($('worst-tools'), 'label');
  add(toggle, 'input', { type: 'checkbox', checked: true, id: 'worst-boxes', onchange: (event) => { view.worst.boxes = event.target.checked; worst(); } });
  toggle.append('boxes');
  sliceFilter($('worst-tools'), view.worst);
  add($('worst-tools'), 'input', { type: 'search', placeholder: 'event or name', 'aria-label': 'Event or name', oninput: (event) => { view.worst.text = event.target.value; worst(); } });
  chooser('false', view.false);
  select($('false-tools'), 'kind', [['', 'all'], ...['localisation', 'background', 'ignored'].map((k) => [k, KINDS[k][0]])], (value) => { view.false.kind = value; falseFinds(); }).id = 'false-kind';
  const modes = D.map((d, i) => [`missed ${i}`, `missed by ${d.name}`]);
  D.forEach((a, i) => D.forEach((b, j) => { if (i !== j) modes.push([`only ${i} ${j}`, `found by ${a.name}, missed by ${b.name}`]); }));
  if (SEVERAL) modes.push(['all', 'missed by all']);
  select($('faces-tools'), 'show', modes, (value) => { view.faces.mode = value; view.faces.size = PAGE; faces(); }).id = 'faces-mode';
  sliceFilter($('faces-tools'), view.faces);
}

const shownNow = { images: [], place: 0, detectors: [] };
function open(images, place, detectors) {
  Object.assign(shownNow, { images, place, detectors });
  draw();
  if (!$('viewer').open) $('viewer').showModal();
}

function draw() {
  const { images, place, detectors } = shownNow;
  const image = images[place];
  const own = R.shown[image];
  $('view-name').textContent = R.images[image];
  $('view-counts').textContent = detectors.map((d) => { const { missed, wrong } = errorsOf(image, d); return `${SEVERAL ? `${D[d].name}: ` : ''}${missed} missed, ${wrong} false`; }).join('; ');
  const box = $('view-image');
  box.replaceChildren();
  $('view-link').removeAttribute('href');
  if (own.link) {
    $('view-link').href = own.link;
    const holder = add(box, 'span', { class: 'frame', style: `--r:${own.size[0] / own.size[1]}` });
    add(holder, 'img', { src: own.link, alt: R.images[image] });
    if ($('view-boxes').checked) overlay(holder, [0, 0, ...own.size], boxesOf(image, detectors));
  }
  $('view-legend').replaceChildren();
  legend($('view-legend'), [['labelled, found', '#23c06d'], ['labelled, missed', '#ff4a36'], ['labelled, ignored', '#bbb'], ...detectors.map((d) => [D[d].name, colour(d)])]);
}

function step(by) {
  const { images } = shownNow;
  let place = shownNow.place;
  do place = (place + by + images.length) % images.length; while (images[place] === images[shownNow.place] && place !== shownNow.place);
  shownNow.place = place;
  draw();
}

function viewer() {
  $('view-prev').addEventListener('click', () => step(-1));
  $('view-next').addEventListener('click', () => step(1));
  $('view-close').addEventListener('click', () => $('viewer').close());
  $('view-boxes').addEventListener('change', draw);
  $('viewer').addEventListener('click', (event) => { if (event.target === $('viewer')) $('viewer').close(); });
  $('viewer').addEventListener('keydown', (event) => {
    if (event.key === 'ArrowLeft') step(-1);
    if (event.key === 'ArrowRight') step(1);
    if (event.key === 'b') { $('view-boxes').checked = !$('view-boxes').checked; draw(); }
  });
}

if (hasImages) {
  tools();
  viewer();
  galleries();
} else {
  for (const id of ['worst', 'false', 'faces']) {
    $(id).remove();
    document.querySelector(`nav a[href="#${id}"]`).remove();
  }
}
