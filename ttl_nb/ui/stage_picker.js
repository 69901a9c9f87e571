// The network as a row of blocks: a click freezes a stage or lets it learn. Where each click leads comes from Python as a table.

const _STAGE_TITLES = {stem: "Stem", stage1: "Stage 1", stage2: "Stage 2", stage3: "Stage 3", stage4: "Stage 4", head: "Head"};
const _STAGE_NORMS = {fixed: ["BatchNorm fixed", "Statistics and affine terms stand still"], affine: ["Statistics fixed", "BatchNorm's affine terms learn, its statistics stand still"],
  moves: ["BatchNorm learns", "Affine terms and statistics learn"], drifts: ["BatchNorm moves", "The stage is frozen, but its BatchNorm goes on learning"]};

// A block as a box in perspective: its face is as high as the resolution, as wide as the channels (both by their root)
function _stageBox(stage, most) {
  const [channels, side] = stage.size || [64, 12];
  const h = 14 + 62*Math.sqrt(side/most.side), w = 10 + 44*Math.sqrt(channels/most.channels), d = h*.32;
  const W = 112, H = 108, x = (W - w - d)/2, y = H - 4 - h;
  const hatch = pickId("hatch"), faces = stage.name === "head" ? _stageHead(channels, W, H) : [
    ["top", `M${x} ${y}l${d} ${-d}h${w}l${-d} ${d}z`], ["side", `M${x + w} ${y}l${d} ${-d}v${h}l${-d} ${d}z`], ["face", `M${x} ${y}h${w}v${h}h${-w}z`]];
  return svg("svg", {class: "ttl-pick-box", viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true", focusable: "false"},
    svg("defs", {}, svg("pattern", {id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"}, svg("rect", {class: "hatch", width: 1.6, height: 6}))),
    faces.map(([name, path]) => svg("path", {class: name, d: path})), faces.map(([, path]) => svg("path", {class: "ice", d: path, style: {fill: `url(#${hatch})`}})));
}
function _stageHead(classes, W, H) {
  const shown = Math.min(classes, 5), r = 9, gap = 6, top = H - 8 - shown*(2*r + gap) + gap;
  return [...Array(shown).keys()].map(i => ["face", `M${W/2 - r} ${Math.max(top, 6) + r + i*(2*r + gap)}a${r} ${r} 0 1 0 ${2*r} 0a${r} ${r} 0 1 0 ${-2*r} 0z`]);
}

function _stageBlock(stage, most, colour, click) {
  const state = el("span", {class: "ttl-pick-state"}), rate = el("span", {class: "ttl-pick-rate"}), norm = el("span", {class: "ttl-pick-norm"});
  const said = pickId("stage"), title = _STAGE_TITLES[stage.name];
  const size = stage.size && (stage.name === "head" ? pickPlural(stage.size[0], "class", "classes") : `${stage.size[1]} × ${stage.size[1]} × ${stage.size[0]}`);
  const node = el("button", {type: "button", class: "ttl-pick-stage", "data-stage": stage.name, "aria-label": `${title} learns`, "aria-describedby": said,
    style: {"--colour": colour}, onclick: () => click(stage.name)},
    _stageBox(stage, most),
    el("span", {class: "ttl-pick-name"}, title), state,
    el("span", {class: "ttl-pick-figures", id: said}, rate, stage.parameters !== null && el("span", {title: `${stage.parameters.toLocaleString("en-GB")} parameters`}, `${pickShort(stage.parameters)} parameters`),
      size && el("span", {title: stage.name === "head" ? null : "width × height × channels of what the stage puts out"}, size), norm));
  return {node, state, rate, norm, stage};
}

function _stageShow(block, plan, mode, rates, steps, random) {
  const {stage, node} = block, opens = plan.opens[stage.name], rate = rates[stage.name], norm = stage.batch_norm ? plan.norms[mode][stage.name] : null;
  node.setAttribute("aria-pressed", opens !== null);
  node.dataset.state = opens === null ? "frozen" : opens > 0 ? "later" : "learns";
  block.state.replaceChildren(opens === null ? pickLock(false) : opens > 0 ? pickClock() : pickLock(true),
    opens === null ? random ? "stays random" : "frozen" : opens > 0 ? `from ${pickPercent(opens)}` : "learns");
  block.rate.replaceChildren(...(opens === null ? ["rate 0"] : rate.rate ? [el("b", {}, rate.rate), rate.share === 1 ? "" : ` = ${rate.factor}`] : [el("b", {}, rate.factor)]));
  const drifts = norm !== null && norm.some((state, i) => state !== "fixed" && (opens === null || opens > plan.phases[i]));
  [block.norm.textContent, block.norm.title] = norm === null ? ["", ""] : _STAGE_NORMS[drifts ? "drifts" : norm[norm.length - 1]];
  block.norm.classList.toggle("ttl-warn", drifts);
}

// Which stage opens when: a bar each, the head on top
function _stageTimeline(stages, colours) {
  const rows = [...stages].reverse().map(s => {
    const bar = el("span", {class: "ttl-pick-bar"}), text = el("span", {class: "ttl-pick-when"});
    return {stage: s.name, bar, text, node: el("li", {style: {"--colour": colours[s.name]}}, el("span", {class: "ttl-pick-row"}, _STAGE_TITLES[s.name]),
      el("span", {class: "ttl-pick-track"}, bar, text))};
  });
  const end = el("span", {}), restarts = el("p", {class: "ttl-note"});
  const node = el("div", {class: "ttl-pick-timeline"}, el("h4", {class: "ttl-pick-label"}, "When each stage learns"),
    el("ul", {}, rows.map(r => r.node)), el("div", {class: "ttl-pick-axis", "aria-hidden": "true"}, el("span", {}, "start"), el("span", {}, "training steps"), end), restarts);
  const show = (plan, steps) => {
    rows.forEach(r => {
      const opens = plan.opens[r.stage], never = opens === null, at = steps && opens ? `, step ${Math.round(opens*steps).toLocaleString("en-GB")}` : "";
      r.node.toggleAttribute("data-never", never);
      r.node.style.setProperty("--from", never ? 1 : opens);
      r.text.textContent = never ? "frozen throughout" : opens > 0 ? `from ${pickPercent(opens)}${at}` : "from the first step";
      r.text.toggleAttribute("data-before", !never && opens > .6);
    });
    end.textContent = steps ? `step ${steps.toLocaleString("en-GB")}` : "end";
    const again = plan.marks.filter(m => m.restarts).map(m => pickPercent(m.at));
    restarts.textContent = again.length ? `The learning-rate cycle starts anew at ${again.join(", ")}.` : "\u00a0";
  };
  return {node, show};
}

function _stagePlans(plans, choose) {
  const groups = [...new Set(Object.values(plans).map(p => p.group))], id = pickId("plan"), said = pickId("plan");
  const select = el("select", {class: "ttl-select", id, "aria-describedby": said, onchange: () => choose(select.value)},
    groups.map(g => el("optgroup", {label: g}, Object.entries(plans).filter(([, p]) => p.group === g).map(([name, p]) => el("option", {value: name}, p.title)))));
  const sentence = el("p", {class: "ttl-pick-sentence", id: said});
  return {select, sentence, node: el("div", {class: "ttl-pick-plan"}, el("label", {for: id, class: "ttl-pick-label"}, "Freezing plan"), select, sentence)};
}

function _stageNorms(norms, choose) {
  const group = pickId("norm"), said = pickId("norm"), sentence = el("p", {class: "ttl-note", id: said});
  const inputs = Object.entries(norms).map(([name, [title]]) => {
    const input = el("input", {type: "radio", name: group, value: name, onchange: () => choose(name)});
    return {name, input, node: el("label", {class: "ttl-pick-option"}, input, title)};
  });
  return {inputs, sentence, node: el("div", {class: "ttl-pick-norms", role: "radiogroup", "aria-label": "BatchNorm", "aria-describedby": said},
    el("span", {class: "ttl-pick-label", "aria-hidden": "true"}, "BatchNorm"), el("div", {class: "ttl-pick-options"}, inputs.map(i => i.node)), sentence)};
}

// One of a few answers to a question beside the plan, with a sentence on it
function _stageChoice(question, answers, choose) {
  const id = pickId("choice"), said = pickId("choice"), sentence = el("p", {class: "ttl-note", id: said});
  const select = el("select", {class: "ttl-select", id, "aria-describedby": said, onchange: () => choose(select.value)},
    Object.entries(answers).map(([name, [title]]) => el("option", {value: name}, title)));
  return {node: el("div", {class: "ttl-pick-choice"}, el("label", {for: id, class: "ttl-pick-label"}, question), select, sentence),
    show: (value, off, instead) => { select.value = value; select.disabled = off || !!instead; sentence.textContent = instead || answers[value][1]; }};
}

// All of it for one network, in `frame`; returns what shows the present choice
function _stageBuild(model, frame) {
  const stages = model.get("_stages"), colours = TTL_STAGE_COLOURS, norms = model.get("_norms");
  const known = stages.filter(s => s.size && s.name !== "head"), most = {side: Math.max(1, ...known.map(s => s.size[1])), channels: Math.max(1, ...known.map(s => s.size[0]))};
  const click = stage => { const [plan, sentence] = model.get("_plans")[model.get("value")].clicks[stage]; pickSet(model, {value: plan, notice: sentence}); };
  const blocks = stages.map(s => _stageBlock(s, most, colours[s.name], click));
  const plans = _stagePlans(model.get("_plans"), name => pickSet(model, {value: name, notice: ""}));
  const time = _stageTimeline(stages, colours), norm = _stageNorms(norms, name => pickSet(model, {batch_norm: name, notice: ""}));
  const rule = _stageChoice("Learning rates", model.get("_rules"), name => pickSet(model, {lr_rule: name, notice: ""}));
  const hold = _stageChoice("What holds weights back", model.get("_holds"), name => pickSet(model, {regulariser: name, notice: ""}));
  const colour = _stageChoice("From grey to colour", model.get("_colours"), name => pickSet(model, {colour: name, notice: ""}));
  const total = el("p", {class: "ttl-pick-total"}), meter = el("div", {class: "ttl-pick-meter", "aria-hidden": "true"}, stages.map(s => el("span", {style: {"--colour": colours[s.name], "--share": s.parameters || 0}})));
  frame.body.replaceChildren(plans.node, el("div", {class: "ttl-pick-net", role: "group", "aria-label": "The network: press a stage to freeze it or to let it learn"},
    blocks.map(b => b.node)), frame.notice, el("div", {class: "ttl-pick-sum"}, total, meter), el("div", {class: "ttl-pick-below"}, time.node, norm.node),
    el("div", {class: "ttl-pick-choices"}, rule.node, hold.node, colour.node));

  blocks[0].node.parentNode.addEventListener("keydown", e => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[e.key], next = blocks[blocks.findIndex(b => b.node === e.target) + step];
    if (step) { e.preventDefault(); next?.node.focus(); }
  });
  return () => {
    const value = model.get("value"), plan = model.get("_plans")[value], mode = model.get("batch_norm"), off = model.get("disabled");
    if (!plan) return;
    plans.select.value = value; plans.select.disabled = off; plans.sentence.textContent = pickText(plan.sentence);
    blocks.forEach(b => { _stageShow(b, plan, mode, model.get("_rates"), model.get("steps"), model.get("random")); b.node.disabled = off; });
    time.show(plan, model.get("steps"));
    rule.show(model.get("lr_rule"), off); hold.show(model.get("regulariser"), off);
    const reads = model.get("reads_colour"); colour.show(reads ? model.get("colour") : "replicate", off, reads ? "" : "This network reads one grey channel: there are no colours to learn.");
    const parameters = stages.map(s => s.parameters), learn = stages.map(s => plan.opens[s.name] !== null);
    if (parameters.every(p => p !== null)) {
      const all = parameters.reduce((a, b) => a + b), some = parameters.reduce((a, p, i) => a + (learn[i] ? p : 0), 0);
      total.replaceChildren(el("b", {}, some.toLocaleString("en-GB")), ` of ${all.toLocaleString("en-GB")} parameters learn (${_stageShare(some/all)})`);
    }
    [...meter.children].forEach((m, i) => m.toggleAttribute("data-frozen", !learn[i]));
    const same = Object.keys(norms).filter(m => m !== mode && JSON.stringify(plan.norms[m]) === JSON.stringify(plan.norms[mode]));
    const without = !stages.some(s => s.batch_norm);
    norm.inputs.forEach(i => { i.input.checked = i.name === mode; i.input.disabled = off || without; i.node.toggleAttribute("data-chosen", i.input.checked); });
    norm.sentence.textContent = without ? "This network has no BatchNorm." : norms[mode][1] + (same.length ? ` In this plan the same as “${same.map(m => norms[m][0]).join("” and “")}”.` : "");
  };
}

function render({model, el: host}) {
  const frame = pickFrame(model, host, "stage", "Freezing");
  let show = null;
  return pickFollow(model, [...frame.follow, ["_stages", () => { show = _stageBuild(model, frame); show(); }],
    ["value batch_norm lr_rule regulariser colour reads_colour disabled steps random _plans _rates", () => show()]]);
}
function _stageShare(x) { return x === 1 ? "all" : x < .001 ? "under 0.1 %" : x > .999 ? "over 99.9 %" : pickPercent(x); }
export default {render};
