//! Training and evaluation: of a whole model, of some of its modules, and of views of it.

use bridge_graph::{
    Flag, GraphError, GraphNode, Mode, ModuleFilter, RngStream, Shared, StatefulModule, Visit, clone, eval,
    graphdef, iter_graph, set_flags_of, set_mode, state, train, variables, view, view_where,
};
use bridge_random::key;
use bridge_vars::{BatchStat, Error, Param, Result};
use indexmap::IndexMap;

use crate::support::{assert_error, param, read, scalar};

#[derive(StatefulModule)]
struct Dropout {
    deterministic: Flag,
    stream: RngStream,
}

#[derive(StatefulModule)]
struct Norm {
    mean: BatchStat,
    use_running_average: Flag,
}

#[derive(StatefulModule)]
struct Block {
    dropout: Dropout,
    kernel: Param,
    norm: Norm,
}

#[derive(StatefulModule)]
struct Model {
    blocks: Vec<Block>,
    boxed: Box<dyn StatefulModule>,
    map: IndexMap<String, Dropout>,
    maybe: Option<Norm>,
    shared: Shared<Dropout>,
    shared_again: Shared<Dropout>,
    verbose: Flag,
}

fn dropout() -> Dropout {
    Dropout { deterministic: Flag::new(false), stream: RngStream::new("dropout", key(1)) }
}

fn norm() -> Norm {
    Norm { mean: BatchStat::new(scalar(0.)), use_running_average: Flag::new(false) }
}

fn model() -> Model {
    let block = || Block { dropout: dropout(), kernel: param(1.), norm: norm() };
    let shared = Shared::new(dropout());
    Model {
        blocks: vec![block(), block()],
        boxed: Box::new(dropout()),
        map: [("b".to_owned(), dropout()), ("a".to_owned(), dropout())].into(),
        maybe: Some(norm()),
        shared_again: shared.clone(),
        shared,
        verbose: Flag::new(false),
    }
}

const DROPOUTS: [&str; 6] = ["blocks.0.dropout", "blocks.1.dropout", "boxed", "map.a", "map.b", "shared"];
const NORMS: [&str; 3] = ["blocks.0.norm", "blocks.1.norm", "maybe"];

/// The paths of the modules with a flag that is on.
fn on<M: Visit + ?Sized>(module: &M) -> Vec<String> {
    let mut on = Vec::new();
    iter_graph(module, |path, node| {
        if let GraphNode::Flag(flag) = node
            && flag.get()
        {
            let mut path = path.clone();
            path.pop();
            on.push(path.to_string());
        }
        Ok(())
    })
    .unwrap();
    on
}

/// The modules that a filter matches go to evaluation, in place and in a view; they alone come back.
#[track_caller]
fn check(filter: ModuleFilter, expected: &[&str]) {
    let model = model();
    let viewed = view_where(&model, filter.clone(), Mode::Eval).unwrap();
    assert_eq!((on(&viewed), on(&model)), (expected.iter().map(ToString::to_string).collect(), vec![]));
    set_mode(&model, filter.clone(), Mode::Eval).unwrap();
    assert_eq!(on(&model), expected);
    set_mode(&model, filter, Mode::Train).unwrap();
    assert!(on(&model).is_empty());
}

#[track_caller]
fn refused(filter: ModuleFilter, text: &str) {
    let model = model();
    set_mode(&model, ModuleFilter::at("boxed"), Mode::Eval).unwrap();
    let expected = format!(
        "no module {text} has a flag `deterministic` or `use_running_average`: name other \
         modules, or other flags"
    );
    for mode in [Mode::Train, Mode::Eval] {
        assert_error::<_, GraphError>(set_mode(&model, filter.clone(), mode), &expected);
        assert_error::<_, GraphError>(view_where(&model, filter.clone(), mode), &expected);
    }
    assert_eq!(on(&model), ["boxed"]);
}

#[test]
fn evaluation_reaches_modules_in_every_container() {
    let model = model();
    let before = graphdef(&model).unwrap();
    eval(&model).unwrap();
    assert_eq!(
        on(&model),
        [
            "blocks.0.dropout",
            "blocks.0.norm",
            "blocks.1.dropout",
            "blocks.1.norm",
            "boxed",
            "map.a",
            "map.b",
            "maybe",
            "shared"
        ]
    );
    assert!(model.shared_again.deterministic.get() && !model.verbose.get());
    assert_ne!(graphdef(&model).unwrap(), before);
    train(&model).unwrap();
    assert_eq!(graphdef(&model).unwrap(), before);
}

#[test]
fn a_mode_is_set_by_the_modules_type() {
    check(ModuleFilter::of::<Dropout>(), &DROPOUTS);
    check(ModuleFilter::of::<Norm>(), &NORMS);
}

#[test]
fn a_mode_is_set_by_the_modules_path() {
    check(ModuleFilter::at("map.b"), &["map.b"]);
    check(ModuleFilter::below("blocks.1"), &["blocks.1.dropout", "blocks.1.norm"]);
    check(ModuleFilter::below("map"), &["map.a", "map.b"]);
    check(ModuleFilter::below("boxed"), &["boxed"]);
    // A shared module stands at its first path.
    check(ModuleFilter::at("shared"), &["shared"]);
    refused(ModuleFilter::at("shared_again"), "at `shared_again`");
}

#[test]
fn filters_combine() {
    let (dropouts, first) = (ModuleFilter::of::<Dropout>, || ModuleFilter::below("blocks.0"));
    check(dropouts() & first(), &["blocks.0.dropout"]);
    check(ModuleFilter::at("maybe") | dropouts() & first(), &["blocks.0.dropout", "maybe"]);
    check(!dropouts(), &NORMS);
    check(!(dropouts() | first()), &["blocks.1.norm", "maybe"]);
    check(dropouts() & !ModuleFilter::below("blocks") & !ModuleFilter::below("map"), &["boxed", "shared"]);
    let named = ModuleFilter::new("with a short path", |path, module| {
        path.len() == 1 && module.type_name() == "Norm"
    });
    check(named, &["maybe"]);
    check(ModuleFilter::all() & ModuleFilter::of::<Norm>(), &NORMS);
}

#[test]
fn filters_say_what_they_are() {
    let print = |filter: ModuleFilter| filter.to_string();
    assert_eq!(print(ModuleFilter::all()), "every module");
    assert_eq!(print(ModuleFilter::of::<Dropout>()), "of type `Dropout`");
    assert_eq!(print(ModuleFilter::at("blocks.0")), "at `blocks.0`");
    assert_eq!(print(ModuleFilter::below("blocks.0")), "in `blocks.0`");
    assert_eq!(print(!ModuleFilter::at("a")), "not at `a`");
    let both = (ModuleFilter::at("a") | ModuleFilter::at("b")) & !ModuleFilter::of::<Norm>();
    assert_eq!(print(both.clone()), "((at `a` or at `b`) and not of type `Norm`)");
    assert_eq!(format!("{both:?}"), "ModuleFilter(((at `a` or at `b`) and not of type `Norm`))");
}

#[test]
fn a_filter_without_a_module_that_has_a_mode_is_an_error_and_sets_nothing() {
    refused(ModuleFilter::at("nowhere"), "at `nowhere`");
    // The block itself has none: each is asked about for itself.
    refused(ModuleFilter::at("blocks.0"), "at `blocks.0`");
    refused(
        ModuleFilter::of::<Model>() | ModuleFilter::of::<Block>(),
        "(of type `Model` or of type `Block`)",
    );
    refused(!ModuleFilter::all(), "not every module");
}

#[test]
fn a_whole_module_without_a_mode_has_any() {
    let plain = vec![param(1.)];
    let before = graphdef(&plain).unwrap();
    eval(&plain).unwrap();
    train(&plain).unwrap();
    assert_eq!(graphdef(&view(&plain, Mode::Eval).unwrap()).unwrap(), before);
}

#[test]
fn flags_of_other_names_are_set_by_their_names() {
    let model = model();
    set_flags_of(&model, ModuleFilter::of::<Model>(), &["verbose"], true).unwrap();
    assert_eq!(on(&model), [""]);
    set_flags_of(&model, ModuleFilter::below("blocks"), &["deterministic"], true).unwrap();
    assert_eq!(on(&model), ["blocks.0.dropout", "blocks.1.dropout", ""]);
    let text = "no module every module has a flag `unknown`: name other modules, or other flags";
    assert_error::<_, GraphError>(set_flags_of(&model, ModuleFilter::all(), &["unknown"], true), text);
    // It has the name, in a module that is not meant.
    let text = "no module in `blocks` has a flag `verbose`: name other modules, or other flags";
    assert_error::<_, GraphError>(
        set_flags_of(&model, ModuleFilter::below("blocks"), &["verbose"], false),
        text,
    );
    assert!(model.verbose.get());
}

#[test]
fn a_view_has_the_very_variables_of_its_module() {
    let model = model();
    let viewed = view(&model, Mode::Eval).unwrap();
    let (own, others) = (variables(&model).unwrap(), variables(&viewed).unwrap());
    assert_eq!(own.len(), others.len());
    for ((path, own), (other_path, other)) in own.iter().zip(&others) {
        assert_eq!(path, other_path);
        assert!(own.is_same(other), "{path}");
    }
    model.blocks[1].kernel.set(scalar(2.)).unwrap();
    assert_eq!(read(&viewed.blocks[1].kernel), 2.);
    viewed.maybe.as_ref().unwrap().mean.set(scalar(3.)).unwrap();
    assert_eq!(read(&model.maybe.as_ref().unwrap().mean), 3.);
    // Streams too: no key comes twice.
    let drawn = [&viewed, &model, &viewed].map(|model| model.map["a"].stream.draw().unwrap());
    assert_eq!(drawn, [0, 1, 2].map(|count| key(1).fold_in(count)));
}

#[test]
fn a_view_keeps_its_mode_and_the_module_its_own() {
    let model = model();
    let (evaluated, trained) = (view(&model, Mode::Eval).unwrap(), view(&model, Mode::Train).unwrap());
    assert_eq!((on(&evaluated).len(), on(&trained).len(), on(&model).len()), (9, 0, 0));
    eval(&model).unwrap();
    assert!(on(&trained).is_empty());
    train(&model).unwrap();
    assert_eq!(on(&evaluated).len(), 9);
    eval(&trained).unwrap();
    assert!(on(&model).is_empty());
    // A view of a view.
    let again = view_where(&evaluated, ModuleFilter::of::<Norm>(), Mode::Train).unwrap();
    assert_eq!((on(&again), on(&evaluated).len()), (DROPOUTS.map(String::from).to_vec(), 9));
}

#[test]
fn a_view_is_as_its_module_would_be_in_that_mode() {
    let model = model();
    let viewed = view(&model, Mode::Eval).unwrap();
    let in_place = clone(&model).unwrap();
    eval(&in_place).unwrap();
    assert_eq!(graphdef(&viewed).unwrap(), graphdef(&in_place).unwrap());
    assert!(state(&viewed).unwrap().identical(&state(&model).unwrap()).unwrap());
    assert!(viewed.shared.is_same(&viewed.shared_again));
    // A shared part is the view's own, since its flags are.
    assert!(!viewed.shared.is_same(&model.shared));
    assert_eq!(viewed.map.keys().collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn an_error_leaves_no_view() {
    let missing: Result<Model, Error> = view_where(&model(), ModuleFilter::at("x"), Mode::Eval);
    assert!(missing.is_err());
}
