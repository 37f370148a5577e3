//! The same decisions as in [`crate::gate::inject`], in CEL, for the API server to make.
//!
//! An admission policy sees the Pod (`object`) and one `DirectLoadBalancer` at a time (`params`); with several objects it is
//! evaluated once for each, on what the one before made. What CEL cannot find out by itself stands in the object's
//! `status.injection`: the selectors of Services, the class' drain defaults, and gate names that end in a hash. One table of
//! cases (`tests/injection.json`) holds both implementations together.

use super::super::inject::{CONTAINERS_ANNOTATION, SECONDS_ANNOTATION};
use crate::api::GATE_PREFIX;

/// The policy's variables, in the order in which they build on each other.
pub(super) fn variables() -> Vec<(&'static str, String)> {
    vec![
        ("labels", "has(object.metadata.labels) ? object.metadata.labels : {}".into()),
        ("annotations", "has(object.metadata.annotations) ? object.metadata.annotations : {}".into()),
        ("owners", OWNERS.into()),
        ("injection", "has(params.status) && has(params.status.injection) ? params.status.injection : {}".into()),
        ("services", "has(variables.injection.services) ? variables.injection.services : []".into()),
        ("selected", selected()),
        ("gate", gate()),
        ("gates", "has(object.spec.readinessGates) ? object.spec.readinessGates.map(g, g.conditionType) : []".into()),
        ("after", format!("variables.gates.filter(g, g.startsWith('{GATE_PREFIX}') && g > variables.gate)")),
        ("wanted", WANTED_SECONDS.into()),
        ("already", already()),
        ("seconds", "variables.wanted > variables.already ? variables.wanted : variables.already".into()),
        ("ours", ours()),
        ("containers", "object.spec.containers".into()),
        ("names", "variables.containers.map(c, c.name)".into()),
        ("inits", "has(object.spec.initContainers) ? object.spec.initContainers : []".into()),
        ("initNames", "variables.inits.map(c, c.name)".into()),
        ("sidecars", "variables.inits.filter(c, has(c.restartPolicy) && c.restartPolicy == 'Always')".into()),
        ("slept", slept()),
        ("changed", CHANGED.into()),
    ]
}

/// The patch: everything in one expression, as a second mutation would not see what the first one made of the variables.
pub(super) fn patch() -> String {
    let sleeps = [sleeps("containers", "containers", "names"), sleeps("sidecars", "initContainers", "initNames")];
    format!(
        "!variables.selected ? [] : ({GATES}) + (variables.wanted == 0 ? [] : ({} + {BOOKKEEPING}))",
        sleeps.join(" + ")
    )
    .replace("$SECONDS", &SECONDS_ANNOTATION.replace('/', "~1"))
    .replace("$CONTAINERS", &CONTAINERS_ANNOTATION.replace('/', "~1"))
}

const OWNERS: &str = "has(object.metadata.ownerReferences) \
    ? object.metadata.ownerReferences.filter(o, has(o.controller) && o.controller && o.apiVersion.startsWith('apps/')) : []";

/// Whether the Pod is one of `$t`, a target.
const MATCHES: &str = "(has($t.workload) ? variables.owners.exists(o, $t.workload.kind == 'Deployment' \
        ? o.kind == 'ReplicaSet' && 'pod-template-hash' in variables.labels \
            && o.name == $t.workload.name + '-' + variables.labels['pod-template-hash'] \
        : o.kind == $t.workload.kind && o.name == $t.workload.name) \
    : has($t.service) ? variables.services.exists(s, s.name == $t.service.name && has(s.selector) && size(s.selector) > 0 \
        && s.selector.all(k, k in variables.labels && variables.labels[k] == s.selector[k])) \
    : has($t.selector) \
        && ((has($t.selector.matchLabels) && size($t.selector.matchLabels) > 0) \
            || (has($t.selector.matchExpressions) && size($t.selector.matchExpressions) > 0)) \
        && (!has($t.selector.matchLabels) || $t.selector.matchLabels.all(k, \
            k in variables.labels && variables.labels[k] == $t.selector.matchLabels[k])) \
        && (!has($t.selector.matchExpressions) || $t.selector.matchExpressions.all(e, \
            e.operator == 'In' ? e.key in variables.labels && variables.labels[e.key] in e.values \
            : e.operator == 'NotIn' ? !(e.key in variables.labels) || !(variables.labels[e.key] in e.values) \
            : e.operator == 'Exists' ? e.key in variables.labels \
            : e.operator == 'DoesNotExist' && !(e.key in variables.labels))))";

fn selected() -> String {
    let matches = |t: &str| MATCHES.replace("$t", t);
    // What an object, a listener and a rule have in common.
    let holder = |h: &str| {
        format!(
            "((has({h}.target) && {}) || (has({h}.targets) && {h}.targets.exists(t, {})))",
            matches(&format!("{h}.target")),
            matches("t")
        )
    };
    format!(
        "!has(params.metadata.deletionTimestamp) && (!has(params.spec.mode) || params.spec.mode == 'Enforce') && (\
         (params.spec.listeners.exists(l, !has(l.target) && !has(l.targets)) && {}) \
         || params.spec.listeners.exists(l, {} || (has(l.rules) && l.rules.exists(r, {}))))",
        holder("params.spec"),
        holder("l"),
        holder("r")
    )
}

fn gate() -> String {
    format!(
        "has(params.spec.readinessGate) && params.spec.readinessGate == 'Disabled' ? '' \
         : size(params.metadata.name) <= 63 ? '{GATE_PREFIX}' + params.metadata.name \
         : has(variables.injection.gate) ? variables.injection.gate : ''"
    )
}

/// Before its first reconcile an object that leaves the drain to its class gets the built-in default.
const WANTED_SECONDS: &str = "has(params.spec.drain) \
    ? (has(params.spec.drain.preStop) && params.spec.drain.preStop == 'None' ? 0 \
        : [duration(has(params.spec.drain.timeout) ? params.spec.drain.timeout : '30s')].map(d, \
            int(d.getSeconds()) + (d > duration(string(d.getSeconds()) + 's') ? 1 : 0))[0]) \
    : has(variables.injection.sleepSeconds) ? int(variables.injection.sleepSeconds) : 30";

fn already() -> String {
    format!(
        "'{SECONDS_ANNOTATION}' in variables.annotations && variables.annotations['{SECONDS_ANNOTATION}'].matches('^[0-9]{{1,6}}$') \
         ? int(variables.annotations['{SECONDS_ANNOTATION}']) : 0"
    )
}

fn ours() -> String {
    format!(
        "'{CONTAINERS_ANNOTATION}' in variables.annotations \
         ? variables.annotations['{CONTAINERS_ANNOTATION}'].split(',') : []"
    )
}

/// Containers that sleep by this project's doing, once the patch is applied.
fn slept() -> String {
    let of = |list: &str| {
        format!(
            "variables.{list}.filter(c, !has(c.lifecycle) || !has(c.lifecycle.preStop) \
             || (c.name in variables.ours && has(c.lifecycle.preStop.sleep))).map(c, c.name)"
        )
    };
    format!("{} + {}", of("containers"), of("sidecars"))
}

const GATES: &str = "variables.gate == '' || variables.gate in variables.gates ? [] \
    : (has(object.spec.readinessGates) ? [] : [JSONPatch{op: 'add', path: '/spec/readinessGates', value: []}]) \
    + [JSONPatch{op: 'add', \
        path: '/spec/readinessGates/' + (size(variables.after) == 0 ? '-' : string(variables.gates.indexOf(variables.after[0]))), \
        value: Object.spec.readinessGates{conditionType: variables.gate}}]";

/// For the containers of a variable: a sleep where there is no hook, and a longer one where ours is too short.
fn sleeps(of: &str, field: &str, names: &str) -> String {
    let path = format!("'/spec/{field}/' + string(variables.{names}.indexOf(c.name)) + '/lifecycle");
    let sleep = format!("Object.spec.{field}.lifecycle.preStop.sleep{{seconds: variables.seconds}}");
    let hook = format!("Object.spec.{field}.lifecycle.preStop{{sleep: {sleep}}}");
    let lifecycle = format!("Object.spec.{field}.lifecycle{{preStop: {hook}}}");
    format!(
        "variables.{of}.filter(c, !has(c.lifecycle)).map(c, JSONPatch{{op: 'add', path: {path}', value: {lifecycle}}}) \
         + variables.{of}.filter(c, has(c.lifecycle) && !has(c.lifecycle.preStop)).map(c, \
             JSONPatch{{op: 'add', path: {path}/preStop', value: {hook}}}) \
         + variables.{of}.filter(c, variables.seconds > variables.already && c.name in variables.ours \
             && has(c.lifecycle) && has(c.lifecycle.preStop) && has(c.lifecycle.preStop.sleep)).map(c, \
             JSONPatch{{op: 'add', path: {path}/preStop/sleep/seconds', value: variables.seconds}})"
    )
}

/// Something is added or lengthened.
const CHANGED: &str = "size(variables.slept) > 0 && (variables.seconds > variables.already \
    || variables.containers.exists(c, !has(c.lifecycle) || !has(c.lifecycle.preStop)) \
    || variables.sidecars.exists(c, !has(c.lifecycle) || !has(c.lifecycle.preStop)))";

/// The grace period, and the annotations that say what was done.
const BOOKKEEPING: &str = "(variables.changed && variables.seconds > variables.already ? [JSONPatch{op: 'add', \
        path: '/spec/terminationGracePeriodSeconds', \
        value: (has(object.spec.terminationGracePeriodSeconds) ? object.spec.terminationGracePeriodSeconds : 30) \
            + variables.seconds - variables.already}] : []) \
    + (variables.changed && !has(object.metadata.annotations) \
        ? [JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}] : []) \
    + (variables.changed ? [ \
        JSONPatch{op: 'add', path: '/metadata/annotations/$SECONDS', value: string(variables.seconds)}, \
        JSONPatch{op: 'add', path: '/metadata/annotations/$CONTAINERS', value: variables.slept.join(',')}] : [])";
