//! `init`, `apply` and `apply_mut`.

use bridge_functional::{BatchNorm, Call, Dense, FunctionalModule, Keys, Mode, Scope};
use bridge_random::key;
use bridge_vars::{BatchStat, CollectionFilter, Intermediate, Metadata, Param, Result, Variables};
use candle_core::Tensor;

use crate::support::{Counter, apply, init, ones, param, paths, to_vec};

/// A module with something in several collections.
#[derive(Clone, Debug, PartialEq)]
struct Several;

impl FunctionalModule for Several {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Counter, x)?;
        let x = scope.call(&BatchNorm::new(), &x)?;
        if scope.is_mutable_collection("intermediates") {
            scope.variable_of(Intermediate::variable_type(), "seen", || Ok(Intermediate::leaf(&x)))?;
        }
        Ok(x)
    }
}

const ALL: [&str; 5] = [
    "batch_stats.BatchNorm_0.mean",
    "batch_stats.BatchNorm_0.var",
    "memory.Counter_0.calls",
    "params.BatchNorm_0.bias",
    "params.BatchNorm_0.scale",
];

fn calls(variables: &Variables) -> u32 {
    variables.get("memory", "Counter_0.calls").unwrap().value.count().unwrap()
}

#[test]
fn init_makes_all_but_intermediates() {
    let x = ones(&[2, 3]);
    let (y, variables) = Several.train().init_with_output(key(0), &x).unwrap();
    assert_eq!(y.dims(), [2, 3]);
    assert_eq!(paths(&variables), [&ALL[..], &["params.Counter_0.scale"]].concat());
    assert_eq!(calls(&variables), 0);
    let call = Call::new().keys(key(0)).mode(Mode::Eval).mutable(CollectionFilter::all());
    let (_, all) = call.init(|scope| Several.call(scope, &x)).unwrap();
    assert_eq!(all.collections().collect::<Vec<_>>(), ["batch_stats", "intermediates", "memory", "params"]);
    let call = Call::new().keys(key(0)).mode(Mode::Eval).mutable("params");
    let error = call.init(|scope| Several.call(scope, &x)).unwrap_err().to_string();
    assert!(error.contains("collection `memory`, which is not there"), "{error}");
}

#[test]
fn init_from_keeps_what_is_there() {
    let x = ones(&[1, 3]);
    let mut given = Variables::default();
    given.insert(&"kernel".into(), Param::leaf(ones(&[3, 2]))).unwrap();
    let call = Call::new().keys(key(0));
    let (y, variables) = call.init_from(&given, |scope| Dense::new(2).call(scope, &x)).unwrap();
    assert_eq!(to_vec(&y), [3., 3.]);
    assert_eq!(paths(&variables), ["params.bias", "params.kernel"]);
    assert_eq!(given.len(), 1);
}

#[test]
fn apply_mut_gives_all_of_the_mutable_collections() {
    let x = ones(&[2, 3]);
    let mut variables = Several.train().init(key(0), &x).unwrap();
    // What no module asks for is given back as well.
    variables.insert(&"elsewhere".into(), BatchStat::leaf(ones(&[1]))).unwrap();
    let none = Keys::none;
    let mutable = |mutable: CollectionFilter| Several.train().apply_mut(&variables, none(), mutable, &x);
    let (_, updates) = mutable(["batch_stats", "memory", "intermediates"].into()).unwrap();
    let expected = [&ALL[..2], &["batch_stats.elsewhere", "intermediates.seen"], &ALL[2..3]].concat();
    assert_eq!(paths(&updates), expected);
    assert_eq!((calls(&updates), calls(&variables)), (1, 0));
    let (_, updates) = mutable(CollectionFilter::all_but(["params"])).unwrap();
    assert_eq!(paths(&updates), expected);
    let (_, updates) = mutable(CollectionFilter::all()).unwrap();
    assert_eq!(updates.len(), variables.len() + 1);
    // With nothing mutable there is nothing to give.
    let (_, updates) = Several.eval().apply_mut(&updates, none(), CollectionFilter::none(), &x).unwrap();
    assert!(updates.is_empty());
}

#[test]
fn a_call_never_changes_what_it_was_given() {
    let x = ones(&[2, 3]);
    let variables = Several.train().init(key(0), &x).unwrap();
    let copy = variables.map(|_, leaf| Ok(leaf.with_value(leaf.value.clone()))).unwrap();
    let mut current = variables.clone();
    for expected in 1..4 {
        let all = CollectionFilter::all();
        let (_, updates) = Several.train().apply_mut(&current, Keys::none(), all, &x).unwrap();
        current = current.updated(&updates).unwrap();
        assert_eq!(calls(&current), expected);
    }
    assert!(variables.identical(&copy).unwrap());
    let change = |scope: &Scope| {
        let made = scope.variable("memory", "made", || Ok(1))?;
        made.set(2)?;
        scope.put(&"Counter_0.calls".into(), made.leaf()?)
    };
    let (_, updates) = Call::new().mutable("memory").apply(&variables, change).unwrap();
    assert_eq!(paths(&updates), ["memory.Counter_0.calls", "memory.made"]);
    assert!(variables.identical(&copy).unwrap());
}

#[test]
fn a_failed_call_changes_nothing_either() {
    let x = ones(&[2, 3]);
    let variables = Several.train().init(key(0), &x).unwrap();
    Several.train().apply_mut(&variables, Keys::none(), "memory", &x).unwrap_err();
    assert_eq!(calls(&variables), 0);
}

#[test]
fn variables_keep_type_and_metadata() {
    let variables = init(|scope| {
        let metadata = Metadata::from_iter([("axis", "data")]);
        scope.variable_of(BatchStat::variable_type(), "mean", || {
            Ok(bridge_vars::Leaf { metadata, ..Param::leaf(1) })
        })?;
        Ok(())
    })
    .unwrap();
    // Its type is the one that was asked for.
    let leaf = variables.get("batch_stats", "mean").unwrap();
    assert_eq!(leaf.kind, BatchStat::variable_type());
    let set = |scope: &Scope| scope.variable("batch_stats", "mean", || Ok(0))?.set(5);
    let (_, updates) = Call::new().mutable("batch_stats").apply(&variables, set).unwrap();
    let leaf = updates.get("batch_stats", "mean").unwrap();
    assert_eq!(leaf.metadata.get("axis").unwrap(), "data");
    assert_eq!((leaf.kind, leaf.value.count().unwrap()), (BatchStat::variable_type(), 5));
}

#[test]
fn a_scope_says_what_it_is() {
    let variables = Several.train().init(key(0), &ones(&[2, 3])).unwrap();
    let call = Call::new().mutable("memory").mode(Mode::Train);
    call.apply(&variables, |scope| {
        let child = scope.child_named("Counter_0", Counter)?;
        child.with(|_, scope| {
            assert_eq!((scope.path().to_string(), scope.mode()), ("Counter_0".into(), Some(Mode::Train)));
            assert_eq!(scope.with_mode(Mode::Eval).mode(), Some(Mode::Eval));
            assert!(scope.is_mutable_collection("memory") && !scope.is_mutable_collection("params"));
            assert!(!scope.is_initializing());
            assert!(scope.has_variable("memory", "calls"));
            assert!(scope.get("params", "calls").is_none());
            assert_eq!(scope.subtree(&"params".into()).unwrap().len(), 1);
            assert_eq!(scope.collections(), ["batch_stats", "memory", "params"]);
            Ok(())
        })
    })
    .unwrap();
}

#[test]
fn parameters_are_made_where_params_are_mutable() {
    let made = |scope: &Scope| param(scope, "x");
    let (_, updates) = Call::new().keys(key(0)).mutable("params").apply(&Variables::default(), made).unwrap();
    assert_eq!(paths(&updates), ["params.x"]);
    assert_eq!(to_vec(&apply(&updates, made).unwrap()), [1.]);
}

#[test]
fn one_module_for_two_types_of_input() {
    #[derive(Clone, Debug, PartialEq)]
    struct Add;
    impl FunctionalModule for Add {
        type Output = Tensor;
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
            Ok(x.broadcast_add(&param(scope, "x")?)?)
        }
    }
    impl FunctionalModule<Vec<f32>> for Add {
        type Output = f32;
        fn call(&self, scope: &Scope, xs: &Vec<f32>) -> Result<f32> {
            Ok(xs.iter().sum::<f32>() + param(scope, "x")?.to_scalar::<f32>()?)
        }
    }
    let variables = FunctionalModule::<Vec<f32>>::init(&Add, key(0), &vec![1., 2.]).unwrap();
    assert_eq!(to_vec(&Add.apply(&variables, &ones(&[2])).unwrap()), [2., 2.]);
    assert_eq!(FunctionalModule::<Vec<f32>>::apply(&Add, &variables, &vec![1., 2.]).unwrap(), 4.);
}

#[test]
fn a_count_is_read_as_one() {
    let (count, _) = Call::new()
        .keys(key(0))
        .init(|scope| {
            let seen = scope.variable("memory", "seen", || Ok(3u32))?;
            assert_eq!(seen.get().unwrap_err().to_string(), "at `seen`: expected a tensor, found a count");
            seen.count()
        })
        .unwrap();
    assert_eq!(count, 3);
}
