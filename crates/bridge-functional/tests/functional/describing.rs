//! Variables that are described and not made.

use bridge_functional::{
    Activation, BatchNorm, Call, Dense, Dropout, FunctionalModule, Keys, Mode, Scope, ScopeError, Sequential,
};
use bridge_ops::stand_in;
use bridge_random::{Initializer, Scheme, key};
use bridge_vars::{
    Metadata, Param, Result, Value, Variables, VarsError, with_logical_partitioning, with_metadata,
    with_partitioning,
};
use candle_core::{DType, Shape, Tensor};

use crate::support::{Body, Counter, apply, assert_error, device, init, ones, param, paths, values};

/// More elements a side than the square of them fits into any machine.
const HUGE: usize = 1 << 20;

fn input(shape: impl Into<Shape>) -> Tensor {
    stand_in(shape, DType::F32, &device()).unwrap()
}

fn dims(variables: &Variables, collection: &str, path: &str) -> Vec<usize> {
    variables.get(collection, path).unwrap().value.tensor_form().unwrap().dims()
}

fn describe(f: impl FnOnce(&Scope) -> Result<()>) -> Variables {
    Call::new().keys(key(0)).describe(f).unwrap().1
}

/// Nothing in it holds elements.
fn assert_described(variables: &Variables) {
    for (path, leaf) in variables.iter() {
        assert!(matches!(leaf.value, Value::Described(_) | Value::Count(_)), "{path}: {:?}", leaf.value);
    }
}

#[test]
fn no_memory_is_taken_for_variables_or_outputs() {
    let model = Sequential::new((
        Dense::new(HUGE),
        Activation::Relu,
        BatchNorm::new(),
        Dropout::new(0.5),
        Sequential::new(vec![Dense::new(HUGE); 3]),
        Activation::Gelu,
        Dense::new(HUGE).without_bias(),
    ));
    let call = Call::new().keys(key(0)).mode(Mode::Eval);
    let (y, variables) = call.describe(|scope| scope.run(&model, &input((HUGE, HUGE)))).unwrap();
    assert_eq!(y.dims(), [HUGE, HUGE]);
    assert_described(&variables);
    for path in ["layers_0.kernel", "layers_4.layers_2.kernel", "layers_6.kernel"] {
        assert_eq!(dims(&variables, "params", path), [HUGE, HUGE], "{path}");
    }
    assert_eq!(dims(&variables, "batch_stats", "layers_2.mean"), [HUGE]);
    assert_eq!(variables.len(), 13);
}

#[test]
fn no_memory_is_taken_in_training_either() {
    let model = Body(|scope, x| {
        let x = scope.call(&BatchNorm::new(), x)?;
        let x = scope.call(&Dropout::new(0.5), &x)?;
        let x = scope.perturb("h", &x)?;
        scope.sow("intermediates", "h", &x)?;
        Ok(x)
    });
    let x = input((HUGE, HUGE));
    for dtype in [DType::F32, DType::BF16] {
        let x = stand_in((HUGE, HUGE), dtype, &device()).unwrap();
        let norm = BatchNorm::new().param_dtype(dtype).train().describe(key(0), &x).unwrap();
        assert_eq!(norm.get("batch_stats", "mean").unwrap().value.tensor_form().unwrap().dtype(), DType::F32);
    }
    let call = Call::new().keys(key(0)).mode(Mode::Train).mutable(true).capture_intermediates();
    let (y, variables) = call.describe(|scope| scope.run(&model, &x)).unwrap();
    assert_eq!(y.dims(), [HUGE, HUGE]);
    assert_described(&variables);
    for (collection, path) in
        [("perturbations", "h"), ("intermediates", "h.0"), ("intermediates", "__call__.0")]
    {
        assert_eq!(dims(&variables, collection, path), [HUGE, HUGE], "{path}");
    }
}

#[test]
fn a_batch_of_any_size_has_the_parameters_of_one() {
    let variables = Dense::new(128).describe(key(0), &input((1 << 30, 128))).unwrap();
    let made = variables.materialize().unwrap();
    let expected = Dense::new(128).init(key(0), &ones(&[1, 128])).unwrap();
    assert_eq!(dims(&made, "params", "kernel"), [128, 128]);
    assert!(made.identical(&expected).unwrap());
}

#[test]
fn real_inputs_and_stand_ins_can_be_mixed() {
    let f = |small: Tensor, large: Tensor| {
        move |scope: &Scope| {
            assert_eq!(scope.call(&Dense::new(2), &small)?.dims(), [1, 2]);
            scope.call(&Dense::new(4), &large).map(|_| ())
        }
    };
    let described = describe(f(ones(&[1, 3]), input((1 << 30, 5))));
    let expected = init(f(ones(&[1, 3]), ones(&[1, 5]))).unwrap();
    assert!(described.materialize().unwrap().identical(&expected).unwrap());
}

/// Describes and makes the variables of a module; they are those of `init`, key for key and bit for bit.
#[track_caller]
fn check<F: FunctionalModule<Output = Tensor>>(module: &F, keys: impl Into<Keys>) {
    let (keys, x) = (keys.into(), ones(&[2, 4]));
    let stands_in = input((2, 4));
    for mode in [Mode::Train, Mode::Eval] {
        let call = || Call::new().keys(&keys).mode(mode);
        let (expected, variables) = call().init(|scope| scope.run(module, &x)).unwrap();
        let (y, described) = call().describe(|scope| scope.run(module, &stands_in)).unwrap();
        assert_described(&described);
        assert_eq!((y.dims(), y.dtype()), (expected.dims(), expected.dtype()));
        assert_eq!(paths(&described), paths(&variables));
        for ((path, found), (_, leaf)) in described.iter().zip(variables.iter()) {
            assert!(found.value.has_form_of(&leaf.value) && found.metadata == leaf.metadata, "{path}");
        }
        assert!(described.materialize().unwrap().identical(&variables).unwrap());
    }
}

#[test]
fn what_is_described_is_made_as_init_makes_it() {
    let normal = Initializer::Normal { stddev: 1. };
    let block =
        Sequential::new((Dense::new(3).bias_init(normal.clone()), BatchNorm::new(), Activation::Silu));
    let nested = Sequential::new((block.clone(), Dropout::new(0.5), block.clone(), Dense::new(2)));
    check(&nested, [("params", key(0)), ("dropout", key(1))]);
    check(&nested, key(0).with_scheme(Scheme::Legacy));
    check(&nested, Keys::from(key(3)).with_separator(bridge_random::Separator::ZeroByte));
    check(&Dense::new(3).kernel_init(Initializer::Orthogonal { scale: 2., column_axis: -1 }), key(1));
    check(&Counter, key(2));
    // Keys are counted across draws of a child, in the order of the calls.
    check(
        &Body(|scope, x| {
            scope.make_rng("params")?;
            let child = scope.child_named("a", Dense::new(4))?;
            let x = child.call(&child.call(x)?)?;
            scope.call(&Dense::new(5), &x)?;
            let normal = Initializer::Normal { stddev: 1. };
            scope.param("own", &normal, 3, DType::F64, x.device())?;
            scope.perturb("hidden", &x)?;
            scope.variable("memory", "sevens", || scope.full(7., (2, 2), DType::F32, x.device()))?;
            Ok(x)
        }),
        key(4),
    );
}

#[test]
fn metadata_are_described_too() {
    let frozen = with_metadata(Initializer::Ones, Metadata::default().with("frozen", true));
    let rules = [("embed", ""), ("mlp", "model")];
    let kernel = with_logical_partitioning(Initializer::lecun_normal(), ["embed", "mlp"], rules);
    let dense = Dense::new(3).kernel_init(kernel).bias_init(frozen);
    check(&dense, key(0));
    let variables = Dense::new(HUGE)
        .kernel_init(with_partitioning(Initializer::Zeros, ["", "model"]))
        .describe(Keys::none(), &input((1, HUGE)))
        .unwrap();
    let specs = variables.partition_specs().unwrap();
    assert_eq!(specs.get(&"params.kernel".into()).unwrap().to_string(), "P(None, model)");
    assert_eq!(specs.get(&"params.bias".into()).unwrap().to_string(), "P()");
}

#[test]
fn without_a_key_values_can_be_loaded_but_not_made() {
    let dense = Dense::new(3);
    let described = dense.describe(Keys::none(), &input((1, 2))).unwrap();
    assert_error::<_, VarsError>(
        described.materialize(),
        "at `params.bias`: f32[3] is not made yet, and how to make it is not known: load its value, or describe it with \
         random keys",
    );
    let mut loaded = described.clone();
    for (path, shape) in [("kernel", &[2, 3][..]), ("bias", &[3])] {
        let leaf = described.get("params", path).unwrap().with_value(ones(shape));
        loaded.insert(&path.into(), leaf).unwrap();
    }
    assert!(loaded.materialize().unwrap().identical(&loaded).unwrap());
    let y = dense.apply(&loaded, &ones(&[1, 2])).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[3.; 3]]);
    // A key for another stream is none for parameters.
    let described = dense.describe([("dropout", key(0))], &input((1, 2))).unwrap();
    assert!(described.materialize().is_err());
}

#[test]
fn a_constant_is_made_without_a_key() {
    let described = BatchNorm::new().eval().describe(Keys::none(), &input((1, 2))).unwrap();
    let statistics = described.filter_collections(|name| name == "batch_stats").materialize().unwrap();
    assert_eq!(values(&statistics, "batch_stats", "mean"), [0.; 2]);
    assert_eq!(values(&statistics, "batch_stats", "var"), [1.; 2]);
}

#[test]
fn what_depends_on_the_input_can_be_loaded_but_not_made() {
    let x = input((2, 3));
    let param = |scope: &Scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            scope.param_with("from_input", Some(&Shape::from((2, 3))), |_| Ok((&x + 1.)?)).map(|_| ())
        })
    };
    let variable = |scope: &Scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            let made = scope.variable("memory", "from_input", || Ok((&x + 1.)?))?;
            assert_eq!(made.get()?.dims(), [2, 3]);
            Ok(())
        })
    };
    let check = |collection: &str, described: Variables| {
        assert_eq!(dims(&described, collection, "a.from_input"), [2, 3]);
        assert_error::<_, VarsError>(
            described.materialize(),
            &format!(
                "at `{collection}.a.from_input`: f32[2, 3] is not made yet, and how to make it is not known: load its \
                 value, or describe it with random keys"
            ),
        );
        let leaf = described.get(collection, "a.from_input").unwrap().with_value(ones(&[2, 3]));
        let mut loaded = described.clone();
        loaded.insert(&"a.from_input".into(), leaf).unwrap();
        assert_eq!(values(&loaded.materialize().unwrap(), collection, "a.from_input"), [1.; 6]);
    };
    check("params", describe(param));
    check("memory", describe(variable));
}

#[test]
fn what_is_set_or_sown_can_be_loaded_but_not_made() {
    let refused = |path: &str, f: &dyn Fn(&Scope) -> Result<()>| {
        let (_, described) = Call::new().keys(key(0)).mutable(true).describe(f).unwrap();
        assert_described(&described);
        assert_error::<_, VarsError>(
            described.materialize(),
            &format!(
                "at `{path}`: f32[2] is not made yet, and how to make it is not known: load its value, or describe it \
                 with random keys"
            ),
        );
    };
    let x = input(2);
    let fives = |scope: &Scope| scope.variable("state", "v", || scope.full(5., 2, DType::F32, &device()));
    // What was there before it was set would be wrong.
    refused("state.v", &|scope| {
        let fives = fives(scope)?;
        fives.set((fives.get()? + 1.)?)
    });
    refused("state.v", &|scope| {
        let kind = fives(scope)?.leaf()?.kind;
        scope.put(&"v".into(), bridge_vars::Leaf::new(kind, &x))
    });
    refused("intermediates.h.0", &|scope| scope.sow("intermediates", "h", &x).map(|_| ()));
    refused("losses.l", &|scope| {
        let zeros = || Ok(x.zeros_like()?);
        scope.sow_with("losses", "l", &x, zeros, |sum, value| Ok((sum + value)?)).map(|_| ())
    });
    // What was not set is made.
    let (_, described) = Call::new().describe(|scope| fives(scope).map(|_| ())).unwrap();
    assert_eq!(values(&described.materialize().unwrap(), "state", "v"), [5., 5.]);
}

#[test]
fn a_shape_that_the_module_would_not_make_is_an_error_already() {
    let f = |scope: &Scope| scope.param_with("x", Some(&Shape::from(2)), |_| Ok(ones(&[3])));
    assert_error::<_, ScopeError>(
        Call::new().keys(key(0)).describe(f),
        "parameter `x`: the module makes it [2], the variables hold [3]: they belong to another configuration or input",
    );
    let error = Dense::new(2).describe(key(0), &input(())).unwrap_err();
    assert_eq!(error.to_string(), "Dense: `x` must have shape [.., inputs], found []");
    assert_error::<_, ScopeError>(
        Call::new().describe(|scope| {
            param(scope, "x")?;
            param(scope, "x")
        }),
        "`x` is there twice: give one another name, or keep the first in a handle and use it again",
    );
}

#[test]
fn a_scope_says_that_it_describes() {
    let said = |scope: &Scope| Ok((scope.is_initializing(), scope.is_describing()));
    assert_eq!(Call::new().describe(said).unwrap().0, (true, true));
    assert_eq!(Call::new().init(said).unwrap().0, (true, false));
    assert_eq!(apply(&Variables::default(), said).unwrap(), (false, false));
}

#[test]
fn a_mode_is_not_needed_but_kept() {
    let described = Sequential::new((BatchNorm::new(), Dropout::new(0.5)))
        .describe(Keys::none(), &input((2, 3)))
        .unwrap();
    assert_eq!(described.len(), 4);
    let seen = |scope: &Scope| Ok((scope.mode(), scope.evaluating(None, "Dropout", "deterministic")?));
    let call = || Call::new();
    assert_eq!(call().describe(seen).unwrap().0, (None, true));
    assert_eq!(call().mode(Mode::Train).describe(seen).unwrap().0, (Some(Mode::Train), false));
    assert_eq!(call().mode(Mode::Eval).describe(seen).unwrap().0, (Some(Mode::Eval), true));
}

#[test]
fn described_variables_are_refused_where_values_are_needed() {
    let described = Dense::new(3).describe(key(0), &input((1, 2))).unwrap();
    assert_error::<_, VarsError>(
        Dense::new(3).apply(&described, &ones(&[1, 2])),
        "at `kernel`: expected a tensor, found a tensor that was described and is not made yet: `materialize` it, or load \
         its value",
    );
    let made = described.materialize().unwrap();
    assert_eq!(Dense::new(3).apply(&made, &ones(&[1, 2])).unwrap().dims(), [1, 3]);
    // The description is left as it was.
    assert_described(&described);
}

#[test]
fn only_what_is_mutable_is_described() {
    let call = Call::new().keys(key(0)).mode(Mode::Eval).mutable(["params", "batch_stats"]);
    let (_, described) = call
        .describe(|scope| {
            scope.call(&BatchNorm::new(), &input((1, 2)))?;
            scope.sow("intermediates", "h", 1)
        })
        .unwrap();
    assert_eq!(described.collections().collect::<Vec<_>>(), ["batch_stats", "params"]);
    let error = Call::new().mutable("params").describe(|scope| scope.call(&Counter, &input(1)));
    assert!(matches!(error.unwrap_err().downcast_ref(), Some(ScopeError::CollectionNotFound { .. })));
}

#[test]
fn what_is_described_replaces_nothing_that_init_makes_itself() {
    // The two can be put together: a described part, and one that is there.
    let x = input((1, 2));
    let described = describe(|scope| scope.call_named("a", &Dense::new(2), &x).map(|_| ()));
    let made = init(|scope| scope.call_named("b", &Dense::new(2), &ones(&[1, 2])).map(|_| ())).unwrap();
    let both = described.updated(&made).unwrap();
    assert_eq!(both.len(), 4);
    let whole = both.materialize().unwrap();
    let expected = init(|scope| scope.call_named("a", &Dense::new(2), &ones(&[1, 2])).map(|_| ())).unwrap();
    assert!(whole.subtree("a").unwrap().identical(&expected.subtree("a").unwrap()).unwrap());
    assert!(whole.subtree("b").unwrap().identical(&made.subtree("b").unwrap()).unwrap());
    assert_eq!(whole.get("params", "a.kernel").unwrap().kind, Param::variable_type());
}
