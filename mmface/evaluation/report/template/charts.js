// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
'use strict';
// Elements and charts. Text from data only ever becomes text nodes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function add(parent, name, attributes = {}, text) {
  const inSvg = name === 'svg' || parent?.namespaceURI === SVG;
  const node = inSvg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(key, value === true ? '' : value);
  }
  if (text !== undefined) node.textContent = text;
  parent?.append(node);
  return node;
}

const colour = (index) => `var(--c${index % 6})`;
const percent = (value, digits = 1) => (value === null || Number.isNaN(value) ? '–' : `${(100 * value).toFixed(digits)} %`);
const fixed = (value, digits) => (value === null || Number.isNaN(value) ? '–' : value.toFixed(digits));

// The next round number: 1, 2, 2.5 or 5 times a power of ten.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.9999) * power;
}

// A frame with axes from 0 to 1, or of the given ranges; returns the function that maps values.
function frame(parent, { width = 360, height = 280, x = [0, 1], y = [0, 1], xlabel = '', ylabel = '', label }) {
  const [left, top, right, bottom] = [38, 8, width - 10, height - 34];
  const svg = add(parent, 'svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label });
  const at = (a, b) => [
    left + ((a - x[0]) / (x[1] - x[0])) * (right - left),
    bottom - ((b - y[0]) / (y[1] - y[0])) * (bottom - top),
  ];
  for (let step = 0; step <= 5; step++) {
    const [a, b] = [x[0] + (step / 5) * (x[1] - x[0]), y[0] + (step / 5) * (y[1] - y[0])];
    const [px, py] = at(a, b);
    add(svg, 'line', { x1: px, x2: px, y1: top, y2: bottom, class: 'rule' });
    add(svg, 'line', { x1: left, x2: right, y1: py, y2: py, class: 'rule' });
    add(svg, 'text', { x: px, y: bottom + 14, 'text-anchor': 'middle' }, Number(a.toPrecision(3)));
    add(svg, 'text', { x: left - 6, y: py + 4, 'text-anchor': 'end' }, Number(b.toPrecision(3)));
  }
  add(svg, 'line', { x1: left, x2: right, y1: bottom, y2: bottom, class: 'axis' });
  add(svg, 'line', { x1: left, x2: left, y1: top, y2: bottom, class: 'axis' });
  add(svg, 'text', { x: (left + right) / 2, y: height - 4, 'text-anchor': 'middle' }, xlabel);
  add(svg, 'text', { x: 10, y: (top + bottom) / 2, 'text-anchor': 'middle', transform: `rotate(-90 10 ${(top + bottom) / 2})` }, ylabel);
  return { svg, at };
}

function line({ svg, at }, points, look) {
  const path = [];
  for (const [a, b] of points) if (Number.isFinite(a) && Number.isFinite(b)) path.push(at(a, b).map((v) => v.toFixed(1)).join(' '));
  if (path.length) add(svg, 'path', { d: `M${path.join('L')}`, fill: 'none', 'stroke-width': 2, 'stroke-linejoin': 'round', ...look });
}

function ring({ svg, at }, a, b, stroke) {
  if (!Number.isFinite(a) || !Number.isFinite(b)) return;
  const [cx, cy] = at(a, b);
  add(svg, 'circle', { cx, cy, r: 4.5, fill: 'var(--card)', stroke, 'stroke-width': 2 });
}

function legend(parent, entries) {
  const list = add(parent, 'div', { class: 'legend' });
  for (const [text, look] of entries) {
    const item = add(list, 'span');
    add(item, 'span', { class: 'dot', style: `background:${look}` });
    item.append(text);
  }
  return list;
}

// Values with their intervals, one below the other. `entries`: {value, low, high}.
function whiskers(parent, entries, label) {
  const known = entries.filter((own) => Number.isFinite(own.low) && Number.isFinite(own.high));
  if (!known.length) return;
  const ends = [Math.min(...known.map((own) => own.low)), Math.max(...known.map((own) => own.high))];
  const margin = Math.max(0.08 * (ends[1] - ends[0]), 0.002);
  const [low, high] = [Math.max(0, ends[0] - margin), Math.min(1, ends[1] + margin)];
  const [left, right, row] = [10, 350, 20];
  const height = entries.length * row + 24;
  const svg = add(parent, 'svg', { viewBox: `0 0 360 ${height}`, role: 'img', 'aria-label': label });
  const at = (value) => left + ((value - low) / (high - low)) * (right - left);
  for (let step = 0; step <= 4; step++) {
    const value = low + (step / 4) * (high - low);
    add(svg, 'line', { x1: at(value), x2: at(value), y1: 2, y2: height - 20, class: 'rule' });
    add(svg, 'text', { x: at(value), y: height - 6, 'text-anchor': step === 0 ? 'start' : step === 4 ? 'end' : 'middle' }, (100 * value).toFixed(1));
  }
  entries.forEach((own, index) => {
    if (!Number.isFinite(own.low)) return;
    const y = 12 + index * row;
    add(svg, 'line', { x1: at(own.low), x2: at(own.high), y1: y, y2: y, stroke: colour(index), 'stroke-width': 3, 'stroke-linecap': 'round', opacity: 0.45 });
    add(svg, 'circle', { cx: at(own.value), cy: y, r: 4.5, fill: colour(index) });
  });
}

// Rows of bars: one bar of each detector. `entries`: {name, small, bars: [{share, text, strong}]}.
function bars(parent, entries) {
  parent.replaceChildren();
  for (const entry of entries) {
    const row = add(parent, 'div', { class: 'row' });
    const name = add(row, 'div', { class: 'name' }, entry.name);
    add(name, 'small', {}, entry.small);
    const tracks = add(row, 'div');
    const values = add(row, 'div', { class: 'value' });
    entry.bars.forEach((bar, index) => {
      const track = add(tracks, 'div', { class: 'track' });
      add(track, 'i', { style: `width:${100 * Math.max(0, Math.min(1, bar.share || 0))}%;background:${colour(index)}` });
      const value = add(values, 'div');
      add(value, 'b', {}, bar.strong);
      value.append(` ${bar.text}`);
    });
  }
}

// One of several buttons is pressed.
function segments(parent, values, chosen, change) {
  parent.replaceChildren();
  for (const [value, text] of values) {
    add(parent, 'button', { type: 'button', 'aria-pressed': String(value === chosen), 'data-value': value, onclick: () => {
      for (const other of parent.children) other.setAttribute('aria-pressed', String(other.dataset.value === String(value)));
      change(value);
    } }, text);
  }
}

function select(parent, label, values, change) {
  const wrap = add(parent, 'label', {}, label);
  const node = add(wrap, 'select', { onchange: () => change(node.value) });
  for (const [value, text] of values) add(node, 'option', { value }, text);
  return node;
}

// Boxes over an image of the given size. `boxes`: {box: [x, y, w, h], class, stroke, title}.
function overlay(parent, viewBox, boxes) {
  const svg = add(parent, 'svg', { viewBox: viewBox.join(' '), preserveAspectRatio: 'none', 'aria-hidden': true });
  for (const { box: [x, y, width, height], title, ...look } of boxes) {
    const rect = add(svg, 'rect', { x, y, width: Math.max(width, 0), height: Math.max(height, 0), ...look });
    if (title) add(rect, 'title', {}, title);
  }
  return svg;
}
