//! A stateful module's call inside of a functional one, seen by whoever looks at that.

use std::collections::BTreeMap;

use bridge_functional::Scope;
use bridge_graph::{Attribute, CALL, Capture, Field, GraphNode, iter_graph, rows_of};
use bridge_vars::{Intermediate, Leaf, Param, Path, PathKey, Perturbation, Result, State};

use crate::lists::{Lists, is_item};
use crate::to_stateful::CLASS_KEY;
use crate::wrapped_call::{NNX, is_built_in};

/// Runs a method of the module, seen by whoever looks at the functional call.
pub(crate) fn run<M: Field, T>(scope: &Scope, module: &M, method: impl Fn(&M) -> Result<T>) -> Result<T> {
    let perturbations = Perturbation::variable_type().collection_name();
    let given = if scope.has_collection(&perturbations) { scope.subtree(&perturbations) } else { None };
    let call = || match scope.is_summarizing() {
        false => method(module),
        true => {
            let (output, rows) = rows_of(module, || method(module))?;
            scope.summarize_inside(rows);
            Ok(output)
        }
    };
    if scope.mutable().is_none() && given.is_none() {
        return call();
    }
    // Whatever is sown into a collection that may change.
    let mut capture = Capture::of::<Perturbation>().in_collections(scope.mutable().clone());
    if scope.is_mutable_collection(Intermediate::variable_type().collection()) {
        capture = capture.and::<Intermediate>();
    }
    if scope.is_capturing() {
        capture = capture.outputs::<Intermediate>();
    }
    let mut begun = given.map(State::from).unwrap_or_default();
    // What is put together goes on from what is there.
    for collection in scope.collections() {
        let is_kept = is_built_in(&collection) || collection == NNX || collection == perturbations;
        if !is_kept
            && collection != Param::variable_type().collection()
            && scope.is_mutable_collection(&collection)
            && let Some(tree) = scope.subtree(&collection)
        {
            tree.try_for_each(|path, leaf: &Leaf| match is_item(path) || begun.tree().get(path).is_some() {
                true => Ok(()),
                false => begun.insert(path, leaf.clone()).map(|_| ()),
            })?;
        }
    }
    let capture = capture.init(&begun);
    let (output, captured, outputs) = capture.run_apart(module, |_| call())?;
    store_captured(scope, module, &captured, &outputs)?;
    Ok(output)
}

/// Puts what was captured inside of the module where the functional module would have put it.
fn store_captured<M: Field>(scope: &Scope, module: &M, captured: &State, outputs: &[Path]) -> Result<()> {
    if captured.is_empty() {
        return Ok(());
    }
    let classes = classes(module)?;
    let mut lists = Lists::default();
    captured.tree().try_for_each(|path, leaf| {
        let collection = leaf.kind.collection_name();
        if !scope.is_mutable_collection(&collection) {
            return Ok(());
        }
        let count = |list: &Path| scope.items(&collection, list);
        let is_call = |key: &PathKey| matches!(key, PathKey::Name(name) if name == CALL);
        let of_output = outputs.iter().find(|list| path.starts_with(list)).map(Path::len);
        // An output inside of a wrapped module is known by its name.
        let of_output = of_output.or_else(|| path.keys().iter().position(is_call).map(|at| at + 1));
        let path = match of_output {
            None if is_item(path) => lists.behind(path, path.len() - 1, count),
            None => path.clone(),
            Some(steps) => {
                let of: Path = path.keys().iter().take(steps - 1).cloned().collect();
                let method = path.keys().get(steps - 1).map(ToString::to_string).unwrap_or_default();
                // The class of what is deeper inside of a wrapped module is not known here.
                let class = classes.get(&of).map(String::as_str).unwrap_or_default();
                // The wrapper's own output is captured by the functional call.
                if (of.is_empty() && method == CALL) || !scope.captures(&of, class, &method) {
                    return Ok(());
                }
                lists.behind(path, steps, count)
            }
        };
        scope.put(&path, leaf.clone())
    })
}

/// The class of each module, of a wrapped one its own.
fn classes<M: Field>(module: &M) -> Result<BTreeMap<Path, String>> {
    let mut classes = BTreeMap::new();
    iter_graph(module, |path, node| {
        match (node, path.last()) {
            (GraphNode::Module(module), _) => {
                drop(classes.insert(path.clone(), module.type_name().to_owned()))
            }
            (GraphNode::Static(value), Some(key)) if *key == CLASS_KEY => {
                if let Attribute::Text(class) = value() {
                    let of = path.keys().iter().take(path.len() - 1).cloned().collect();
                    classes.insert(of, class.to_string());
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(classes)
}
