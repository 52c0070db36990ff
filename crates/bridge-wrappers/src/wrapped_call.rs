//! A call of a stateful module inside of a functional one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_functional::{Mode, Scope};
use bridge_graph::{
    BareTensor, EVALUATION_FLAGS, Field, GraphDef, GraphNode, Policy, Program, RngStream, find_duplicates,
    iter_graph, merge, merge_with, reached, restart_streams, split, stand_ins, state, variables,
};
use bridge_random::Key;
use bridge_vars::{
    BatchStat, Cache, Described, Filter, Intermediate, Leaf, Name, Param, Path, PathKey, Perturbation,
    Result, RngCount, RngKey, RngState, State, Tree, Value, VariableType,
};

use crate::WrapperError;
use crate::lazy_init::complete;
use crate::lists::is_item;
use crate::options::Options;
use crate::seen::run;

pub(crate) static NNX: Name = Name::from_static(&"nnx");
pub(crate) static GRAPHDEF: Name = Name::from_static(&"<graphdef>");

/// The first call of a module that was just constructed: its variables are stored as they are before it.
///
/// Calls run on a copy, because the constructor may have put a part into it that is in use elsewhere. Of a module that is only
/// described, the copy has stand-ins.
pub(crate) fn init<M: Field, T>(
    scope: &Scope,
    module: &M,
    options: &Options,
    method: impl Fn(&M) -> Result<T>,
) -> Result<T> {
    let (graphdef, state) = split(module)?;
    if !scope.is_describing() {
        let copy = merge(&graphdef, &state)?;
        let constructed = flags(&copy)?;
        enter_call(scope, &copy)?;
        initialize_inside(&copy, &method)?;
        set_flags_back(&copy, &constructed)?;
        let (graphdef, state) = split(&copy)?;
        store_all(scope, &graphdef, &state, options)?;
        enter_call(scope, &copy)?;
        return run(scope, &copy, method);
    }
    let (copy, made) = complete_described(scope, &graphdef, &state, Policy::Strict, &method)?;
    let state = State::merge([state, made])?;
    // Without a key, a value can be loaded and not made.
    let state = match scope.streams().next() {
        Some(_) => state,
        None => state.map(|_, leaf| match &leaf.value {
            Value::Described(described) => {
                let form = described.form();
                Ok(leaf.with_value(Described::new(form.dims(), form.dtype(), described.device())))
            }
            _ => Ok(leaf.clone()),
        })?,
    };
    store_all(scope, &bridge_graph::graphdef(&copy)?, &state, options)?;
    enter_call(scope, &copy)?;
    run(scope, &copy, method)
}

/// A module with stand-ins for its values, and what was made lazily inside of it.
fn complete_described<M: Field, T>(
    scope: &Scope,
    graphdef: &GraphDef<M>,
    state: &State,
    policy: Policy,
    method: &impl Fn(&M) -> Result<T>,
) -> Result<(M, State)> {
    let (copy, _) = merge_with(graphdef, &stand_ins(state)?, policy)?;
    let constructed = flags(&copy)?;
    enter_call(scope, &copy)?;
    if scope.is_initializing() {
        initialize_inside(&copy, method)?;
    }
    set_flags_back(&copy, &constructed)?;
    let made = split(&copy)?.1.without(state);
    Ok((copy, made))
}

/// Creates what is created lazily inside a module that was just constructed, and leaves everything else
/// as it was: as if `lazy_init` had been called in the constructor.
fn initialize_inside<M: Field, T>(module: &M, method: &impl Fn(&M) -> Result<T>) -> Result<()> {
    let mut wrapped: Vec<Path> = Vec::new();
    iter_graph(module, |path, node| {
        if let GraphNode::Context(_) = node {
            wrapped.push(path.clone());
        }
        Ok(())
    })?;
    if wrapped.is_empty() {
        return Ok(());
    }
    let before = state(module)?;
    complete(module, method)?;
    let made = state(module)?.without(&before);
    // The streams of what was initialised have been drawn from for good.
    wrapped.retain(|wrapped| made.iter().any(|(path, _)| path.starts_with(wrapped)));
    let drawn: Vec<Path> = wrapped.iter().map(|path| path.join(Name::from_static(&"<rngs>"))).collect();
    for (path, variable) in variables(module)? {
        if let Some(leaf) = before.tree().get(&path)
            && !drawn.iter().any(|drawn| path.starts_with(drawn))
        {
            variable.assign(leaf);
        }
    }
    Ok(())
}

/// A call of a module that the scope's variables hold.
pub(crate) fn apply<M: Field, T>(
    scope: &Scope,
    graphdef: GraphDef<M>,
    options: &Options,
    method: impl Fn(&M) -> Result<T>,
) -> Result<T> {
    let before = stored_state(scope, &graphdef)?;
    if scope.is_describing() {
        let (copy, made) = complete_described(scope, &graphdef, &before, options.policy, &method)?;
        if !made.is_empty() && scope.is_initializing() {
            store_all(scope, &bridge_graph::graphdef(&copy)?, &made, options)?;
        }
        enter_call(scope, &copy)?;
        return run(scope, &copy, method);
    }
    let (module, misfit) = merge_with(&graphdef, &before, options.policy)?;
    let before = match misfit.is_empty() {
        true => before,
        // What was left alone is no part of the module.
        false => {
            let mismatched = misfit.mismatched.iter().map(|mismatch| &mismatch.path);
            let left: BTreeSet<Path> = misfit.unexpected.iter().chain(mismatched).cloned().collect();
            before.filter(Filter::new(move |path, _| !left.contains(path)))
        }
    };
    let streams = scope.streams().filter(|_| !options.skip_rng);
    let keys = streams.map(|stream| Ok((stream.clone(), scope.make_rng(stream)?)));
    let keys: Vec<(Name, Key)> = keys.collect::<Result<_>>()?;
    let reached = reached(&module)?;
    let stored = match reached.flags && scope.is_mutable_collection(&NNX) {
        true => flags(&module)?,
        false => Vec::new(),
    };
    if reached.flags || reached.contexts {
        enter_call(scope, &module)?;
    }
    if !options.skip_rng && (reached.streams || reached.contexts) {
        start_streams(scope, &module, &keys)?;
    }
    if scope.is_initializing() {
        // Another method may need what the first call did not make. The variables that `init` returns are as
        // before the first call.
        initialize_inside(&module, &method)?;
        set_flags_back(&module, &stored)?;
        let (graphdef, state) = split(&module)?;
        let made = state.without(&before);
        if !made.is_empty() {
            store_all(scope, &graphdef, &made, options)?;
        }
        enter_call(scope, &module)?;
        return run(scope, &module, method);
    }
    let output = run(scope, &module, &method)?;
    if !stored.is_empty() {
        set_flags_back(&module, &stored)?;
    }
    write_back(scope, &module, &before, &keys, options)?;
    Ok(output)
}

/// Starts the module's streams from the call's keys, as `nnx.reseed` does. Wrapped modules inside, which may want a
/// stream that they were made without, get streams of the call as if they stood after the module's own.
fn start_streams<M: Field>(scope: &Scope, module: &M, keys: &[(Name, Key)]) -> Result<()> {
    let seal = !scope.is_mutable_collection(RngCount::variable_type().collection());
    let mut met = restart_streams(module, keys, seal)?;
    if keys.is_empty() {
        return Ok(());
    }
    iter_graph(module, |_, node| {
        if let GraphNode::Context(context) = node {
            let stream = |((name, key), met): (&(Name, Key), &mut u32)| {
                *met += 1;
                RngStream::new(name.clone(), key.fold_in(*met - 1))
            };
            context.set_streams(keys.iter().zip(&mut met).map(stream).collect());
        }
        Ok(())
    })
}

/// The module's switches, which a call's mode moves while it lasts.
fn flags<M: Field>(module: &M) -> Result<Vec<(Path, bool)>> {
    let mut flags = Vec::new();
    iter_graph(module, |path, node| {
        if let GraphNode::Flag(flag) = node {
            flags.push((path.clone(), flag.get()));
        }
        Ok(())
    })?;
    Ok(flags)
}

/// The description that is stored is the module's, not the call's.
fn set_flags_back<M: Field>(module: &M, flags: &[(Path, bool)]) -> Result<()> {
    let mut flags = flags.iter();
    iter_graph(module, |path, node| {
        if let GraphNode::Flag(flag) = node
            && let Some((_, on)) = flags.find(|(other, _)| other == path)
        {
            flag.set(*on);
        }
        Ok(())
    })
}

/// What the functional call says to the module: its mode, and what it may change.
fn enter_call<M: Field>(scope: &Scope, module: &M) -> Result<()> {
    iter_graph(module, |path, node| {
        match (node, path.last(), scope.mode()) {
            (GraphNode::Context(context), ..) => {
                // What is sown inside is handed up, not kept.
                let sown = Intermediate::variable_type().collection();
                context.set_mutable(Some(scope.mutable().difference(&sown.into())));
                context.set_separator(Some(scope.rngs().separator()));
            }
            (GraphNode::Flag(flag), Some(PathKey::Name(name)), Some(mode))
                if EVALUATION_FLAGS.contains(&name.as_str()) =>
            {
                flag.set(mode == Mode::Eval);
            }
            _ => {}
        }
        Ok(())
    })
}

fn write_back<M: Field>(
    scope: &Scope,
    module: &M,
    before: &State,
    keys: &[(Name, Key)],
    options: &Options,
) -> Result<()> {
    write_back_at(scope, module, before, keys, options, &BTreeMap::new())
}

/// Writes back what changed, of shared variables at the paths where they were given.
fn write_back_at<M: Field>(
    scope: &Scope,
    module: &M,
    before: &State,
    keys: &[(Name, Key)],
    options: &Options,
    given: &BTreeMap<Path, Path>,
) -> Result<()> {
    let mut changed: Vec<(Path, Leaf)> = Vec::new();
    let mut structure: Vec<Path> = Vec::new();
    let mut met = 0;
    let mut wrapped: Vec<Path> = Vec::new();
    iter_graph(module, |path, node| {
        let leaf = match node {
            GraphNode::Variable(variable) => variable.leaf()?,
            GraphNode::Context(_) => {
                wrapped.push(path.clone());
                return Ok(());
            }
            GraphNode::Tensor(_) => {
                met += 1;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let same_form = match before.tree().get(path) {
            Some(before) => {
                met += 1;
                if before.value.is_same(&leaf.value) && before.metadata == leaf.metadata {
                    return Ok(());
                }
                leaf.value.has_form_of(&before.value)
            }
            // A policy let it be missing.
            None if matches!(leaf.value, Value::Absent) => return Ok(()),
            // What a wrapped module keeps of what was sown in it is to be looked at, and no part of this one.
            None if (leaf.kind == Intermediate::variable_type() || is_item(path))
                && wrapped.iter().any(|wrapped| path.starts_with(wrapped)) =>
            {
                return Ok(());
            }
            None => false,
        };
        if !same_form {
            structure.push(path.clone());
        }
        changed.push((path.clone(), leaf));
        Ok(())
    })?;
    if !structure.is_empty() || met < before.len() {
        if let Some((before, given)) = at_first_paths(module, before)? {
            return write_back_at(scope, module, &before, keys, options, &given);
        }
        if !scope.is_mutable_collection(&NNX) {
            let gone = before.without(&state(module)?);
            structure.extend(gone.iter().map(|(path, _)| path));
            let path = scope.path().clone();
            return Err(WrapperError::StructureChanged { path, changed: structure }.into());
        }
        store_graphdef(scope, &bridge_graph::graphdef(module)?)?;
    }
    for (path, leaf) in changed {
        let stored = match leaf.kind.is(RngState::variable_type()) {
            true => stores_stream(scope, &leaf, keys),
            false => !options.drop_immutable_writes || scope.is_mutable_collection(leaf.kind.collection()),
        };
        if stored {
            let path = given.get(&path).unwrap_or(&path);
            scope.put(path, options.stored(path, leaf))?;
        }
    }
    Ok(())
}

/// A state that has shared variables at other paths than their first, with those at their first, and from those to where they
/// were.
fn at_first_paths<M: Field>(module: &M, state: &State) -> Result<Option<(State, BTreeMap<Path, Path>)>> {
    let duplicates = find_duplicates(module)?;
    let mut given = BTreeMap::new();
    let mut renamed = State::default();
    for (path, leaf) in state.iter() {
        let first = duplicates.iter().find_map(|same| {
            let (first, others) = same.split_first()?;
            let other = others.iter().find(|other| path.starts_with(other))?;
            Some(first.concat(&path.keys().iter().skip(other.len()).cloned().collect()))
        });
        match first {
            Some(first) => {
                renamed.insert(&first, leaf.clone())?;
                given.insert(first, path);
            }
            None => drop(renamed.insert(&path, leaf.clone())?),
        }
    }
    Ok((!given.is_empty()).then_some((renamed, given)))
}

/// A stream that was drawn from is no change that anyone has to allow. One that went on from another key is
/// stored whole or not at all: a new count for the old key would repeat numbers.
fn stores_stream(scope: &Scope, leaf: &Leaf, keys: &[(Name, Key)]) -> bool {
    let mutable = |kind: VariableType| scope.is_mutable_collection(kind.collection());
    match keys.iter().any(|(name, _)| leaf.metadata.tag() == Some(name)) {
        true => mutable(RngKey::variable_type()) && mutable(RngCount::variable_type()),
        false => mutable(leaf.kind),
    }
}

/// Whether a collection is one that modules keep variables in, so that what a module does not know there is a mistake.
pub(crate) fn is_built_in(collection: &Name) -> bool {
    let kinds = [
        BatchStat::variable_type(),
        Cache::variable_type(),
        RngKey::variable_type(),
        RngCount::variable_type(),
        BareTensor::variable_type(),
    ];
    kinds.iter().any(|kind| collection == kind.collection())
}

/// Everything that the collections hold for this module, in one tree.
///
/// What calls left behind to be looked at is no part of it, unless the module has a variable there; nor is what is in a collection
/// of one's own that the module has nothing in.
fn stored_state<M>(scope: &Scope, graphdef: &GraphDef<M>) -> Result<State> {
    let mut stored = Vec::new();
    let mut own_types = None;
    for collection in scope.collections().into_iter().filter(|collection| *collection != NNX) {
        let Some(tree) = scope.subtree(&collection) else { continue };
        let left_behind = [Intermediate::variable_type(), Perturbation::variable_type()];
        let is_own = collection == Param::variable_type().collection() || {
            let types = own_types.get_or_insert_with(|| graphdef.variable_types());
            let is_of = |kind: &VariableType| collection == kind.collection();
            !left_behind.iter().any(is_of) && (types.iter().any(is_of) || is_built_in(&collection))
        };
        stored.push(match is_own {
            true => State::from(tree),
            false => {
                let own = graphdef.variable_paths();
                State::from(tree).filter(Filter::new(move |path, _| own.binary_search(path).is_ok()))
            }
        });
    }
    let mut state = State::merge(stored)?;
    // What wrapped modules inside keep in `nnx` is part of the state; this module's own description is not.
    if let Some(Tree::Node(nnx)) = scope.subtree(&NNX)
        && nnx.children().len() > 1
    {
        let mut nnx = Tree::Node(nnx);
        nnx.remove(&Path::from(PathKey::Name(GRAPHDEF.clone())));
        state = State::merge([state, nnx.into()])?;
    }
    Ok(state)
}

/// Stores a module at `init`. What could not be stored would be missing at `apply`.
fn store_all<M>(scope: &Scope, graphdef: &GraphDef<M>, state: &State, options: &Options) -> Result<()> {
    store_graphdef(scope, graphdef)?;
    let mut collections: Vec<String> = Vec::new();
    if !scope.is_mutable_collection(&NNX) {
        collections.push(NNX.to_string());
    }
    state.tree().try_for_each(|path, leaf| {
        let collection = leaf.kind.collection();
        if scope.is_mutable_collection(collection) {
            return scope.put(path, options.stored(path, leaf.clone()));
        }
        if !collections.iter().any(|known| known == collection) {
            collections.push(collection.to_owned());
        }
        Ok(())
    })?;
    match collections.is_empty() {
        true => Ok(()),
        false => Err(WrapperError::NotStored { path: scope.path().clone(), collections }.into()),
    }
}

fn store_graphdef<M>(scope: &Scope, graphdef: &GraphDef<M>) -> Result<()> {
    let program: Arc<dyn bridge_vars::Opaque> = graphdef.program().clone();
    let leaf = Leaf::new(VariableType::from_collection(&NNX), program);
    if scope.is_mutable_collection(&NNX) {
        scope.put(&Path::from(PathKey::Name(GRAPHDEF.clone())), leaf)?;
    }
    Ok(())
}

pub(crate) fn program(leaf: &Leaf) -> Result<Arc<Program>> {
    leaf.value.opaque_arc()
}
