//! What a scope gives, keeps and refuses.

use bridge_functional::{BatchNorm, Call, Dense, FunctionalModule, Keys, Scope, ScopeError, ScopeVariable};
use bridge_random::{Initializer, Key, PathItem, Separator, fold_static, key};
use bridge_vars::{Cache, Leaf, Node, Param, Path, PathKey, Result, Tree, Variables, with_partitioning};
use candle_core::DType;

use crate::support::{
    Body, Counter, apply, assert_error, device, init, ones, param, paths, scalar, to_vec, values,
};

/// Collections that hold nothing.
fn empty_collections(names: &[&str]) -> Variables {
    let empty = |name: &&str| (PathKey::from(*name), Tree::Node(Node::from_sorted([])));
    Tree::<Leaf>::Node(Node::from_sorted(names.iter().map(empty))).into()
}

fn is_not_found(error: &bridge_vars::Error, collection: &str) -> bool {
    matches!(error.downcast_ref(), Some(ScopeError::CollectionNotFound { collection: found, .. }) if found == collection)
}

#[test]
fn a_parameter_is_made_once_and_found_again() {
    let add = Body(|scope, x| {
        let bias = scope.param("bias", &Initializer::Ones, 1, DType::F32, x.device())?;
        Ok((x + bias)?)
    });
    let (y, variables) = add.init_with_output(key(0), &ones(&[1])).unwrap();
    assert_eq!(to_vec(&y), [2.]);
    assert_eq!(paths(&variables), ["params.bias"]);
    let mut changed = variables.clone();
    changed.insert(&"bias".into(), Param::leaf(ones(&[1]).affine(5., 0.).unwrap())).unwrap();
    // With `params` mutable it is not made again either, and no key is drawn.
    let (y, state) = add.apply_mut(&changed, Keys::none(), "params", &ones(&[1])).unwrap();
    assert_eq!(to_vec(&y), [6.]);
    assert!(state.identical(&changed).unwrap());
}

#[test]
fn shape_and_dtype_are_those_that_the_module_asks_for() {
    let ask = |shape: &[usize], dtype| {
        let shape = shape.to_vec();
        move |scope: &Scope| {
            scope.child_named("a", ())?.with(|(), scope| {
                scope.param("test", &Initializer::Ones, shape.as_slice(), dtype, &device()).map(|_| ())
            })
        }
    };
    let variables = init(ask(&[2], DType::F32)).unwrap();
    apply(&variables, ask(&[2], DType::F32)).unwrap();
    assert_error::<_, ScopeError>(
        apply(&variables, ask(&[4], DType::F32)),
        "parameter `a.test`: the module makes it [4], the variables hold [2]: they belong to another configuration or input",
    );
    assert_error::<_, ScopeError>(
        apply(&variables, ask(&[2], DType::BF16)),
        "parameter `a.test`: the module makes it bf16, the variables hold f32: convert them, or set the module's \
         `param_dtype`",
    );
    // A function of one's own says what it expects by itself.
    let found = apply(&variables, |scope| {
        let parameter = |scope: &Scope| scope.param_with("test", None, |_| panic!("made again"));
        scope.child_named("a", ())?.with(|(), scope| parameter(scope))
    });
    assert_eq!(found.unwrap().dims(), [2]);
}

#[test]
fn an_empty_collection_is_as_good_as_none() {
    for variables in [Variables::default(), empty_collections(&["params", "state"])] {
        let error = apply(&variables, |scope| param(scope, "x")).unwrap_err();
        assert!(is_not_found(&error, "params"), "{error}");
        let error = apply(&variables, |scope| scope.variable("state", "x", || Ok(1))).unwrap_err();
        assert!(is_not_found(&error, "state"), "{error}");
    }
    let other = init(|scope| param(scope, "abc").map(|_| ())).unwrap();
    let error = apply(&other, |scope| scope.variable("state", "x", || Ok(1))).unwrap_err();
    assert!(is_not_found(&error, "state"), "{error}");
    let error = apply(&other, |scope| param(scope, "x")).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::ParamNotFound { .. })), "{error}");
}

#[test]
fn variables_below_a_second_params_are_explained() {
    let variables = Dense::new(2).init(key(0), &ones(&[1, 3])).unwrap();
    let mut twice = Tree::<Leaf>::default();
    twice.insert_tree(&"params".into(), variables.tree().clone()).unwrap();
    assert_error::<_, ScopeError>(
        Dense::new(2).apply(&twice.into(), &ones(&[1, 3])),
        "`kernel` is in the collection `params` below another `params`: pass the variables as `init` returned them, or \
         `Variables::from` a tree whose first keys are the collections",
    );
    Dense::new(2).apply(&variables, &ones(&[1, 3])).unwrap();
}

#[test]
fn what_was_put_is_there() {
    let kind = bridge_vars::VariableType::from_collection("state");
    let f = |scope: &Scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            assert!(!scope.has_variable("state", "test"));
            assert!(scope.get("state", "test").is_none());
            scope.put(&"test".into(), Leaf::new(kind, 1))?;
            assert!(scope.has_variable("state", "test"));
            // Its name is free still.
            scope.variable("state", "test", || -> Result<u32> { panic!("made") })?.set(2)?;
            assert_eq!(scope.get("state", "test").unwrap().value.count()?, 2);
            Ok(())
        })
    };
    let (_, variables) = Call::new().mutable("state").apply(&Variables::default(), f).unwrap();
    assert_eq!(paths(&variables), ["state.a.test"]);
    assert_eq!(variables.get("state", "a.test").unwrap().value.count().unwrap(), 2);
}

#[test]
fn nothing_is_put_where_the_collection_can_not_change() {
    let kind = bridge_vars::VariableType::from_collection("state");
    let f = |scope: &Scope| {
        scope.child_named("a", ())?.with(|(), scope| scope.put(&"test".into(), Leaf::new(kind, 123)))
    };
    let call = Call::new().mutable("params");
    assert_error::<_, ScopeError>(
        call.apply(&Variables::default(), f),
        "`a.test` can not change: the collection `state` is not mutable in this call, mutable: params; use `apply_mut` with \
         \"state\", or `.mutable(\"state\")` where it is wrapped",
    );
    let variables = Counter.init(key(0), &ones(&[1])).unwrap();
    let set = |scope: &Scope| scope.variable("memory", "calls", || Ok(0))?.set(5);
    let error = apply(&variables, set).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::NotMutable { .. })), "{error}");
}

#[test]
fn a_value_put_below_a_child_is_the_childs() {
    let kind = bridge_vars::VariableType::from_collection("state");
    let f = |scope: &Scope| {
        let child = scope.child_named("a", ())?;
        let x = child.with(|(), scope| scope.variable("state", "x", || Ok(0)))?;
        scope.put(&"a.x".into(), Leaf::new(kind, 1))?;
        assert_eq!(x.count()?, 1);
        x.set(2)?;
        let below = scope.subtree(&"state".into()).unwrap();
        assert_eq!(below.get(&"a.x".into()).unwrap().value.count()?, 2);
        Ok(())
    };
    Call::new().mutable("state").apply(&Variables::default(), f).unwrap();
}

#[test]
fn a_variable_says_whether_it_can_change() {
    let variables = init(|scope| scope.variable("state", "test", || Ok(1)).map(|_| ())).unwrap();
    let is_mutable = |scope: &Scope| {
        let variable = scope.variable("state", "test", || Ok(0))?;
        Ok((variable.is_mutable(), scope.is_mutable_collection("state"), variable.count()?))
    };
    assert_eq!(apply(&variables, is_mutable).unwrap(), (false, false, 1));
    let (said, _) = Call::new().mutable("state").apply(&variables, is_mutable).unwrap();
    assert_eq!(said, (true, true, 1));
    let (said, state) = Call::new().mutable(true).apply(&variables, is_mutable).unwrap();
    assert!(said == (true, true, 1) && state.identical(&variables).unwrap());
}

#[test]
fn changes_during_init_count() {
    let count = Body(|scope, x| {
        let calls = scope.variable("counts", "calls", || Ok(0))?;
        if calls.is_mutable() {
            calls.set(calls.count()? + 1)?;
        }
        Ok(x.clone())
    });
    let variables = count.init(Keys::none(), &ones(&[1])).unwrap();
    let calls = |variables: &Variables| variables.get("counts", "calls").unwrap().value.count().unwrap();
    assert_eq!(calls(&variables), 1);
    let (_, state) = count.apply_mut(&variables, Keys::none(), "counts", &ones(&[1])).unwrap();
    assert_eq!((calls(&state), calls(&variables)), (2, 1));
}

#[test]
fn a_scope_knows_whether_it_is_initializing() {
    let initializing = |scope: &Scope| Ok(scope.is_initializing());
    assert!(Call::new().init(initializing).unwrap().0);
    assert!(Call::new().init_from(&Variables::default(), initializing).unwrap().0);
    assert!(!Call::new().mutable(true).apply(&Variables::default(), initializing).unwrap().0);
    let child = |scope: &Scope| scope.child_named("a", ())?.with(|(), scope| Ok(scope.is_initializing()));
    assert!(Call::new().init(child).unwrap().0);
}

#[test]
fn paths_grow_from_the_root() {
    let mut seen = Vec::new();
    let mut see = |scope: &Scope| seen.push(scope.path().to_string());
    init(|scope| {
        see(scope);
        let b1 = scope.child_named("b1", ())?;
        b1.with(|(), scope| {
            see(scope);
            for name in ["c1", "c2"] {
                scope.child_named(name, ())?.with(|(), scope| {
                    see(scope);
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        scope.child_named("b2", ())?.with(|(), scope| {
            see(scope);
            Ok(())
        })?;
        b1.with(|(), scope| {
            see(scope);
            Ok(())
        })
    })
    .unwrap();
    assert_eq!(seen, ["", "b1", "b1.c1", "b1.c2", "b2", "b1"]);
}

#[test]
fn a_variable_keeps_its_metadata_when_it_is_read_and_set() {
    let boxed = with_partitioning(Initializer::Ones, ["in", "out"]);
    let f = |scope: &Scope| {
        let plain = scope.param("kernel", &boxed, (2, 2), DType::F32, &device())?;
        assert_eq!(to_vec(&plain), [1.; 4]);
        let leaf = scope.get("params", "kernel").unwrap();
        assert_eq!(leaf.partition_spec()?.to_string(), "P(in, out)");
        let state = bridge_vars::VariableType::from_collection("state");
        let variable = scope.variable_of(state, "sum", || {
            Ok(Leaf { metadata: boxed.metadata.clone(), ..Leaf::new(state, ones(&[2, 2])) })
        })?;
        variable.set((variable.get()? + 1.)?)?;
        Ok(())
    };
    let variables = init(f).unwrap();
    assert_eq!(values(&variables, "state", "sum"), [2.; 4]);
    let specs = variables.partition_specs().unwrap();
    for path in ["params.kernel", "state.sum"] {
        assert_eq!(specs.get(&path.into()).unwrap().to_string(), "P(in, out)", "{path}");
    }
}

/// A scope and a variable of it, kept beyond their call.
fn leaked(path: &'static str) -> (Scope, ScopeVariable) {
    let (leaked, _) = Call::new()
        .keys(key(0))
        .mutable(true)
        .init(|scope| {
            let take = |scope: &Scope| Ok((scope.clone(), scope.variable("memory", "seen", || Ok(1))?));
            match path {
                "" => take(scope),
                _ => scope.child_named(path, ())?.with(|(), scope| take(scope)),
            }
        })
        .unwrap();
    leaked
}

#[test]
fn a_scope_stores_nothing_after_its_call() {
    let refused = |at: &str, result: Result<()>| {
        let text = format!(
            "{at}the call of this scope is over, and what it would store is lost: use it inside of the call"
        );
        assert_error::<_, ScopeError>(result, &text);
    };
    for (path, at) in [("", ""), ("a", "at `a`: ")] {
        let (scope, seen) = leaked(path);
        refused(at, scope.put(&"x".into(), Cache::leaf(1)));
        refused(at, param(&scope, "x").map(|_| ()));
        refused(at, scope.variable("cache", "y", || Ok(1)).map(|_| ()));
        refused(at, scope.sow("intermediates", "h", 1).map(|_| ()));
        refused(
            at,
            scope.sow_with("losses", "l", &scalar(1.), || Ok(scalar(0.)), |a, b| Ok((a + b)?)).map(|_| ()),
        );
        refused(at, scope.perturb("p", &scalar(1.)).map(|_| ()));
        refused(at, seen.set(2));
        refused(at, scope.child_named("b", ()).map(|_| ()));
        refused(at, scope.call(&Dense::new(2), &ones(&[1, 2])).map(|_| ()));
        refused(at, scope.run(&Dense::new(2), &ones(&[1, 2])).map(|_| ()));
        refused(at, scope.make_rng("params").map(|_| ()));
        // What is there can be read.
        assert_eq!(seen.count().unwrap(), 1);
        assert!(scope.has_variable("memory", "seen"));
    }
    let (handle, _) = Call::new().init(|scope| scope.child_named("c", Dense::new(2))).unwrap();
    refused("at `c`: ", handle.call(&ones(&[1, 2])).map(|_| ()));
    refused("at `c`: ", handle.with(|_, _| Ok(())));
}

#[test]
fn a_scope_of_a_call_that_failed_is_over_too() {
    let mut leaked = None;
    let failed: Result<((), Variables)> = Call::new().mutable(true).apply(&Variables::default(), |scope| {
        leaked = Some(scope.clone());
        Err(ScopeError::ReservedName { path: Path::root() }.into())
    });
    assert!(failed.is_err());
    let error = leaked.unwrap().put(&"x".into(), Cache::leaf(1)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::CallEnded { .. })), "{error}");
}

/// The keys that a closure draws.
fn draw<T>(keys: impl Into<Keys>, f: impl FnOnce(&Scope) -> Result<T>) -> T {
    Call::new().keys(keys).apply(&Variables::default(), f).unwrap().0
}

#[test]
fn a_child_called_twice_keeps_its_parameters_and_draws_new_keys() {
    let noisy = Body(|scope, x| {
        param(scope, "scale")?;
        // The key itself, as numbers.
        let noise = bridge_random::normal(scope.make_rng("dropout")?, x.shape(), DType::F32, x.device())?;
        Ok(noise)
    });
    let ((first, second), variables) = Call::new()
        .keys(key(0))
        .init(|scope| {
            let child = scope.child_named("a", noisy.clone())?;
            Ok((child.call(&ones(&[4]))?, child.call(&ones(&[4]))?))
        })
        .unwrap();
    assert_ne!(to_vec(&first), to_vec(&second));
    assert_eq!(paths(&variables), ["params.a.scale"]);
}

#[test]
fn the_names_of_a_path_are_kept_apart_where_that_was_asked_for() {
    let drawn = |keys: Keys, outer: &'static str, inner: &'static str| -> Key {
        draw(keys, |scope| {
            scope
                .child_named(outer, ())?
                .with(|(), scope| scope.child_named(inner, ())?.with(|(), scope| scope.make_rng("params")))
        })
    };
    let flax = || Keys::from(key(0));
    assert_eq!(drawn(flax(), "ab", "c"), drawn(flax(), "a", "bc"));
    let apart = || flax().with_separator(Separator::ZeroByte);
    assert_ne!(drawn(apart(), "ab", "c"), drawn(apart(), "a", "bc"));
    let items = [PathItem::Name("ab"), PathItem::Name("c"), PathItem::Count(1)];
    assert_eq!(drawn(apart(), "ab", "c"), fold_static(key(0), items, Separator::ZeroByte));
}

#[test]
fn streams_without_a_key_are_those_of_params() {
    let model = Body(|scope, x| {
        let noise = |name: &'static str, scope: &Scope| {
            scope.child_named(name, ())?.with(|(), scope| {
                let key = scope.make_rng(name)?;
                Ok(bridge_random::normal(key, x.shape(), DType::F32, x.device())?)
            })
        };
        let variable = scope.variable("state", "start", || noise("var_rng", scope))?;
        let x = scope.call(&Dense::new(3), &(x + variable.get()?)?)?;
        x.broadcast_add(&noise("noise", scope)?).map_err(Into::into)
    });
    let x = ones(&[1, 3]);
    let with = |keys: &[(&'static str, i64)]| {
        let keys: Keys = keys.iter().map(|(name, seed)| (*name, key(*seed))).collect();
        model.init_with_output(keys, &x).unwrap()
    };
    let (y, variables) = with(&[("params", 0)]);
    let (same_y, same) = with(&[("params", 0), ("var_rng", 0), ("noise", 0)]);
    assert!(variables.identical(&same).unwrap());
    assert_eq!(to_vec(&y), to_vec(&same_y));
    assert!(!variables.identical(&with(&[("params", 1)]).1).unwrap());
    assert!(!variables.identical(&with(&[("params", 0), ("var_rng", 1)]).1).unwrap());
    let (other, unchanged) = with(&[("params", 0), ("noise", 1)]);
    assert!(variables.identical(&unchanged).unwrap());
    assert_ne!(to_vec(&y), to_vec(&other));
}

#[test]
fn one_key_is_that_of_params() {
    let x = ones(&[1, 3]);
    let one = Dense::new(2).init(key(5), &x).unwrap();
    assert!(one.identical(&Dense::new(2).init([("params", key(5))], &x).unwrap()).unwrap());
    let drawn = |keys: Keys| draw(keys, |scope| scope.make_rng("params"));
    assert_eq!(drawn(key(5).into()), drawn([("params", key(5))].into()));
}

#[test]
fn a_call_that_may_change_nothing_gives_no_variables() {
    let x = ones(&[2, 3]);
    let variables = BatchNorm::new().eval().init(key(0), &x).unwrap();
    let run = |mutable: bridge_vars::CollectionFilter| {
        BatchNorm::new().eval().apply_mut(&variables, Keys::none(), mutable, &x).unwrap().1
    };
    assert!(run(false.into()).is_empty());
    assert!(run(Vec::<String>::new().into()).is_empty());
    // What may change is given back, touched or not, and nothing else.
    assert_eq!(paths(&run("batch_stats".into())), ["batch_stats.mean", "batch_stats.var"]);
    assert_eq!(paths(&run(["params", "cache"].into())), ["params.bias", "params.scale"]);
    assert!(run(true.into()).identical(&variables).unwrap());
}
