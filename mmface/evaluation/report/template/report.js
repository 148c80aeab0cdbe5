// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
'use strict';
const R = window.REPORT;
const $ = (id) => document.getElementById(id);
const D = R.detectors;
const SEVERAL = D.length > 1;
const NEVER = 1000;
const KINDS = {
  missed: ['missed', 'Faces that no detection hits and none comes near. Mended: not counted.'],
  localisation: ['badly placed', 'On a face that counts, with an IoU of 0.1 to 0.5. Mended: moved onto it.'],
  duplicate: ['duplicate', 'A second detection on a face. Mended: removed.'],
  background: ['background', 'Overlaps no labelled face by 0.1. Mended: removed.'],
  ignored: ['near an ignored face', 'Overlaps a face that does not count by 0.1 to 0.5. Mended: removed. (With 0.5 and more it counts nowhere, so it is no error.)'],
};
const KIND_NAMES = ['missed', 'localisation', 'duplicate', 'background', 'ignored'];
const state = {
  subset: R.main,
  bins: D.map((d) => d.best_f1[R.main]),
  group: Object.keys(R.groups)[0],
};
const hasImages = Object.values(R.shown).some((own) => own.link);

// Which image each face is on, and the bit of each subset.
const imageOf = new Int32Array(R.faces.bits.length);
for (let i = 0; i < R.images.length; i++) imageOf.fill(i, R.splits[i], R.splits[i + 1]);
const bitOf = (subset) => 1 << R.subsets.indexOf(subset);
const counts = (face) => (R.faces.bits[face] & bitOf(state.subset)) !== 0;
const found = (d, face) => D[d].found[face] <= state.bins[d];

// The numbers of a detector at a threshold, for the chosen subset.
function numbers(d, bin = state.bins[d]) {
  const own = D[d];
  const proposals = own.proposals[state.subset][bin];
  const recalled = own.recalled[state.subset][bin];
  const faces = own.faces[state.subset];
  const precision = proposals ? recalled / proposals : NaN;
  const recall = faces ? recalled / faces : NaN;
  const f1 = recalled ? (2 * precision * recall) / (precision + recall) : 0;
  return { precision, recall, f1, recalled, missed: faces - recalled, wrong: proposals - recalled, perImage: (proposals - recalled) / R.images_with_faces };
}

function name(parent, d) {
  add(parent, 'span', { class: 'dot', style: `background:${colour(d)}` });
  parent.append(D[d].name);
}

function summary() {
  const table = $('ap');
  table.replaceChildren();
  const head = add(add(table, 'thead'), 'tr');
  for (const text of ['detector', ...R.subsets, 'detections']) add(head, 'th', { scope: 'col' }, text);
  const body = add(table, 'tbody');
  D.forEach((own, d) => {
    const row = add(body, 'tr');
    name(add(row, 'td'), d);
    for (const subset of R.subsets) {
      const ap = own.ap[subset];
      const best = SEVERAL && ap.value !== null && D.every((o) => !(o.ap[subset].value > ap.value));
      const cell = add(row, 'td', { class: best ? 'best' : '' });
      add(cell, 'b', {}, percent(ap.value, 2));
      add(cell, 'span', { class: 'range' }, `${fixed(ap.low === null ? null : 100 * ap.low, 1)} to ${fixed(ap.high === null ? null : 100 * ap.high, 1)}`);
    }
    add(row, 'td', {}, own.detections.toLocaleString('en'));
    for (const text of own.warnings) add($('warnings'), 'p', { class: 'note' }, `${own.name}: ${text}`);
  });
}

// The intervals as a chart.
function intervals() {
  const place = $('intervals');
  place.replaceChildren();
  for (const subset of R.subsets) {
    const panel = add(place, 'div');
    add(panel, 'h3', {}, subset);
    whiskers(panel, D.map((own) => own.ap[subset]), `AP with 95 % intervals, ${subset}`);
  }
}

function differences() {
  const place = $('differences');
  place.replaceChildren();
  if (!SEVERAL) return;
  add(place, 'h3', { style: 'margin-top:1rem' }, `Differences of AP, ${state.subset}`);
  const table = add(add(place, 'div', { class: 'scroll' }), 'table', { id: 'gaps' });
  const head = add(add(table, 'thead'), 'tr');
  for (const text of ['pair', 'difference', '95 % interval', 'p', '']) add(head, 'th', { scope: 'col' }, text);
  const body = add(table, 'tbody');
  for (const own of R.differences.filter((one) => one.subset === state.subset)) {
    const row = add(body, 'tr');
    add(row, 'td', {}, `${own.a} − ${own.b}`);
    add(row, 'td', {}, `${fixed(own.value === null ? null : 100 * own.value, 2)} points`);
    add(row, 'td', {}, `${fixed(own.low === null ? null : 100 * own.low, 2)} to ${fixed(own.high === null ? null : 100 * own.high, 2)}`);
    add(row, 'td', {}, own.p !== null && own.p <= 2.01 / (R.draws + 1) ? `< ${fixed(2.1 / R.draws, 3)}` : fixed(own.p, 3));
    add(row, 'td', {}, own.low > 0 ? `${own.a} is better` : own.high < 0 ? `${own.b} is better` : 'not decided');
  }
  add(place, 'p', { class: 'quiet', style: 'margin-top:.5rem' }, `${R.draws} draws of ${R.images.length} images, the same for both.`);
}

function curves() {
  const place = $('pr');
  place.replaceChildren();
  for (const subset of R.subsets) {
    const panel = add(place, 'div');
    add(panel, 'h3', {}, `${subset} (${D[0].faces[subset].toLocaleString('en')} faces)`);
    const chart = frame(panel, { xlabel: 'recall', ylabel: 'precision', label: `Precision over recall, ${subset}` });
    D.forEach((own, d) => {
      const total = own.faces[subset];
      const points = own.proposals[subset].map((p, i) => [own.recalled[subset][i] / total, own.recalled[subset][i] / p]);
      line(chart, points, { stroke: colour(d) });
    });
    D.forEach((own, d) => {
      const i = state.bins[d];
      ring(chart, own.recalled[subset][i] / own.faces[subset], own.recalled[subset][i] / own.proposals[subset][i], colour(d));
    });
    legend(panel, D.map((own, d) => [`${percent(own.ap[subset].value, 2)}  ${own.name}`, colour(d)]));
  }
}

function sliders() {
  const place = $('sliders');
  place.replaceChildren();
  D.forEach((own, d) => {
    const row = add(place, 'div', { class: 'slider', style: `--own:${colour(d)}` });
    name(add(row, 'label', { for: `slider-${d}` }), d);
    const range = add(row, 'input', { type: 'range', min: 0, max: NEVER - 1, id: `slider-${d}` });
    range.value = NEVER - 1 - state.bins[d];
    const presets = add(row, 'div', { class: 'presets' });
    const set = (bin) => { state.bins[d] = bin; range.value = NEVER - 1 - bin; follow(); };
    range.addEventListener('input', () => { state.bins[d] = NEVER - 1 - Number(range.value); follow(); });
    add(presets, 'button', { type: 'button', onclick: () => set(D[d].best_f1[state.subset]) }, 'best F1');
    for (const wanted of [0.9, 0.95, 0.99]) {
      add(presets, 'button', { type: 'button', title: `lowest threshold with this precision, there and above`, onclick: () => {
        const bin = forPrecision(d, wanted);
        if (bin !== null) set(bin);
      } }, `precision ${wanted}`);
    }
    add(row, 'div', { class: 'tiles', id: `tiles-${d}` });
  });
}

// The lowest threshold from which on precision is high enough.
function forPrecision(d, wanted) {
  let last = null;
  for (let bin = 0; bin < NEVER; bin++) {
    const { precision } = numbers(d, bin);
    if (precision < wanted) break;
    if (!Number.isNaN(precision)) last = bin;
  }
  return last;
}

function tiles() {
  D.forEach((own, d) => {
    const place = $(`tiles-${d}`);
    place.replaceChildren();
    const now = numbers(d);
    const shown = { score: fixed(own.scores[state.bins[d]], 3), precision: percent(now.precision), recall: percent(now.recall), F1: fixed(now.f1, 3), 'false finds per image': fixed(now.perImage, 2), found: now.recalled.toLocaleString('en'), missed: now.missed.toLocaleString('en'), 'false finds': now.wrong.toLocaleString('en') };
    for (const [key, text] of Object.entries(shown)) {
      const tile = add(place, 'div', { class: 'tile', 'data-key': key });
      add(tile, 'b', {}, text);
      add(tile, 'span', {}, key);
    }
  });
}

function operation() {
  const place = $('operation');
  place.replaceChildren();
  const all = D.flatMap((own) => [own.scores[0], own.scores[NEVER - 1]]);
  const low = Math.min(...all);
  const x = [low < 0 ? -roundUp(-low) : 0, roundUp(Math.max(1e-9, ...all))];
  const charts = [['precision', 'precision', [0, 1]], ['recall', 'recall', [0, 1]], ['F1', 'f1', [0, 1]], ['false finds per image', 'perImage', null]];
  for (const [title, key, fixedRange] of charts) {
    const panel = add(place, 'div');
    const top = roundUp(Math.max(...D.map((_, d) => numbers(d, Math.min(NEVER - 1, state.bins[d] + 250)).perImage), 0.1));
    const chart = frame(panel, { width: 280, height: 230, x, y: fixedRange ?? [0, top], xlabel: 'score', ylabel: title, label: `${title} over the threshold` });
    D.forEach((own, d) => {
      const points = own.scores.map((score, bin) => [score, numbers(d, bin)[key]]).filter(([, y]) => fixedRange || y <= top);
      line(chart, points, { stroke: colour(d) });
      ring(chart, own.scores[state.bins[d]], numbers(d)[key], colour(d));
    });
  }
  if (SEVERAL) legend(place, D.map((own, d) => [own.name, colour(d)]));
}

function errors() {
  const most = Math.max(...D.flatMap((own) => Object.values(own.errors[state.subset].cost).map((v) => v || 0)), 1e-9);
  bars($('costs'), KIND_NAMES.map((kind) => ({
    name: KINDS[kind][0],
    small: kind === 'missed' ? 'faces' : 'detections',
    bars: D.map((own) => {
      const { cost, count } = own.errors[state.subset];
      return { share: cost[kind] / most, strong: cost[kind] === null ? '–' : `+${(100 * cost[kind]).toFixed(2)}`, text: `points, ${count[kind].toLocaleString('en')}` };
    }),
  })));
}

function breakdown() {
  const group = R.groups[state.group];
  const faces = new Array(group.values.length).fill(0);
  const hits = D.map(() => new Array(group.values.length).fill(0));
  const bit = bitOf(state.subset);
  for (let face = 0; face < imageOf.length; face++) {
    if (!(R.faces.bits[face] & bit)) continue;
    faces[group.code[face]]++;
    for (let d = 0; d < D.length; d++) if (found(d, face)) hits[d][group.code[face]]++;
  }
  const entries = group.values.map((value, i) => ({
    name: value,
    small: `${faces[i].toLocaleString('en')} faces`,
    faces: faces[i],
    bars: D.map((own, d) => {
      const slice = own.slices[state.subset].find((s) => s[0] === state.group && s[1] === value);
      const nme = slice[4] === null ? '' : `, NME ${fixed(slice[4], 4)} (${slice[5].toLocaleString('en')})`;
      return { share: hits[d][i] / faces[i], strong: percent(hits[d][i] / faces[i]), text: `AP ${percent(slice[3])}${nme}` };
    }),
  })).filter((entry) => entry.faces);
  if (state.group === 'event') entries.sort((a, b) => a.bars[0].share - b.bars[0].share);
  // The values need more room with a third number.
  $('bars').style.setProperty('--values', entries.some((e) => e.bars.some((b) => b.text.includes('NME'))) ? '17rem' : '9.6rem');
  bars($('bars'), entries);
  $('slicenote').textContent = group.of_images
    ? 'AP as if the data set had only these images.'
    : 'AP of a kind of faces: all other faces are ignored, the false finds of all images count. It falls with the number of the faces, so compare it between detectors, not between kinds.';
  const points = D.filter((own) => own.nme[state.subset]?.[1]).map((own) => {
    const [mean, count] = own.nme[state.subset];
    return `${own.name}: ${fixed(mean, 4)} (${count.toLocaleString('en')})`;
  });
  if (points.length) $('slicenote').textContent += ` NME, the mean error of the keypoints of faces found at any threshold (their number): ${points.join('; ')}.`;
}

// Everything that depends on the threshold; once a frame at most.
let waiting = false;
function follow() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    curves(); tiles(); operation(); breakdown();
    window.galleries?.();
  });
}

function everything() {
  summary.done ||= (summary(), intervals(), true);
  differences(); errors(); follow();
}

function start() {
  if (R.subsets.length === 4) for (const id of ['pr', 'intervals']) $(id).classList.add('four');
  const total = D[0].faces;
  $('about').textContent = `${R.protocol} protocol, IoU ${R.iou}; ${R.images.length.toLocaleString('en')} images${R.partial ? ' (a part)' : ''}, ${R.subsets.map((s) => `${total[s].toLocaleString('en')} ${s}`).join(', ')} faces`;
  segments($('subsets'), R.subsets.map((s) => [s, s]), state.subset, (value) => { state.subset = value; everything(); });
  segments($('groups'), Object.keys(R.groups).map((g) => [g, g]), state.group, (value) => { state.group = value; breakdown(); });
  for (const kind of KIND_NAMES) {
    add($('kinds'), 'dt', {}, KINDS[kind][0]);
    add($('kinds'), 'dd', {}, KINDS[kind][1]);
  }
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const theme = (value) => { document.documentElement.dataset.theme = value; };
  theme(dark.matches ? 'dark' : 'light');
  dark.addEventListener('change', () => theme(dark.matches ? 'dark' : 'light'));
  $('theme').addEventListener('click', () => theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'));
  sliders();
  everything();
}
start();
