//! A functional call inside of a stateful module, seen by whoever looks at that.

use bridge_functional::{Call, Scope};
use bridge_graph::{CALL, CaptureInside, capture_inside, is_tabulated, tabulate_inside};
use bridge_ops::is_shapes_only;
use bridge_vars::{CollectionFilter, Intermediate, Leaf, Path, PathKey, Result, Tree, Variables};

use crate::lists::{Lists, is_item};

/// Runs a call of the functional module in a wrapper: what it returns, and what is mutable after it.
///
/// A capture around the wrapper gets what is sown, perturbed and given inside, and a table its rows.
pub(crate) fn run<W: 'static, T>(
    wrapper: &W,
    call: Call,
    mutable: &CollectionFilter,
    before: &Variables,
    f: impl FnOnce(&Scope) -> Result<T>,
) -> Result<(T, Variables)> {
    let capture = capture_inside(wrapper);
    if capture.is_none() && !is_shapes_only() {
        return call.mutable(mutable).apply(before, f);
    }
    let (call, asked, before) = match &capture {
        Some(capture) => prepare(capture, call, before)?,
        None => (call, CollectionFilter::none(), before.clone()),
    };
    let call = call.mutable(mutable.union(&asked));
    let (output, after) = match is_shapes_only() {
        true => {
            let (output, after, rows) = call.apply_shapes(&before, f)?;
            if is_tabulated(wrapper) {
                tabulate_inside(wrapper, rows);
            }
            (output, after)
        }
        false => call.apply(&before, f)?,
    };
    if let Some(capture) = &capture {
        let mut lists = Lists::default();
        after.tree().try_for_each(|path, leaf| give(capture, &mut lists, path, leaf))?;
    }
    Ok((output, after.filter_collections(|collection| mutable.contains(collection))))
}

/// The call with what is captured being mutable, and the variables with what was given. Lists go on from what was given where
/// they are captured.
fn prepare(
    capture: &CaptureInside,
    call: Call,
    before: &Variables,
) -> Result<(Call, CollectionFilter, Variables)> {
    let call = if capture.has_outputs() { call.capture_intermediates() } else { call };
    let mut before = before.clone();
    if let Some(given @ Tree::Node(_)) = capture.given() {
        given.try_for_each(|path: &Path, leaf: &Leaf| match is_item(path) {
            true => Ok(()),
            false => before.insert(path, leaf.clone()).map(|_| ()),
        })?;
    }
    Ok((call, capture.collections(), before))
}

fn give(capture: &CaptureInside, lists: &mut Lists, path: &Path, leaf: &Leaf) -> Result<()> {
    let below: Path = path.keys().iter().skip(1).cloned().collect();
    let called = below.keys().iter().position(|key| matches!(key, PathKey::Name(name) if name == CALL));
    if let Some(at) = called.filter(|_| leaf.kind == Intermediate::variable_type()) {
        let of: Path = below.keys().iter().take(at).cloned().collect();
        let Some(kind) = capture.output(&of) else { return Ok(()) };
        let path = lists.behind(&below, at + 1, |list| capture.items(list));
        return capture.put(&path, Leaf { kind, ..leaf.clone() });
    }
    if !capture.wants(leaf.kind, is_item(&below)) {
        return Ok(());
    }
    match is_item(&below) {
        true => {
            let path = lists.behind(&below, below.len() - 1, |list| capture.items(list));
            capture.put(&path, leaf.clone())
        }
        false => capture.put(&below, leaf.clone()),
    }
}
