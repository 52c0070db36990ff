//! Methods beside `call`, and functions of a scope.

use bridge_functional::{Call, Dense, FunctionalModule, Keys, Method, Scope, ScopeError};
use bridge_random::key;
use bridge_vars::{CollectionFilter, Result, Variables};
use candle_core::Tensor;

use crate::support::{Body, assert_error, ones, paths, to_vec};

#[derive(Clone, Debug, PartialEq)]
struct Autoencoder {
    encoder: Dense,
    decoder: Dense,
}

impl Autoencoder {
    fn new() -> Self {
        Self { encoder: Dense::new(2), decoder: Dense::new(4) }
    }
    fn encode(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("encoder", &self.encoder, x)
    }
    fn decode(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("decoder", &self.decoder, x)
    }
}

impl FunctionalModule for Autoencoder {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.decode(scope, &self.encode(scope, x)?)
    }
    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("encode", Self::encode), ("decode", Self::decode)]
    }
}

fn variables() -> Variables {
    Autoencoder::new().init(key(0), &ones(&[1, 4])).unwrap()
}

fn apply<T>(f: impl FnOnce(&Scope) -> Result<T>) -> Result<T> {
    Ok(Call::new().apply(&variables(), f)?.0)
}

#[test]
fn a_method_can_be_called_by_name_or_in_a_closure() {
    let (model, x) = (Autoencoder::new(), ones(&[1, 4]));
    let expected = to_vec(&apply(|scope| model.encode(scope, &x)).unwrap());
    assert_eq!(expected.len(), 2);
    let by_name = apply(|scope| scope.run_named(&model, "encode", &x));
    assert_eq!(to_vec(&by_name.unwrap()), expected);
    let bound = model.bind(&variables(), Keys::none(), CollectionFilter::none());
    assert_eq!(to_vec(&bound.call_method("encode", &x).unwrap()), expected);
    assert_eq!(to_vec(&bound.with(|model, scope| model.encode(scope, &x)).unwrap()), expected);
    let whole = apply(|scope| scope.run_named(&model, "__call__", &x)).unwrap();
    assert_eq!(to_vec(&whole), to_vec(&model.apply(&variables(), &x).unwrap()));
}

#[test]
fn init_of_a_method_makes_what_it_needs() {
    let (model, x) = (Autoencoder::new(), ones(&[1, 4]));
    let call = Call::new().keys(key(0));
    let (_, made) = call.init(|scope| scope.run_named(&model, "encode", &x)).unwrap();
    assert_eq!(paths(&made), ["params.encoder.bias", "params.encoder.kernel"]);
    let whole = variables();
    let encoder =
        whole.filter(bridge_vars::Filter::path_in(["params.encoder.bias", "params.encoder.kernel"]));
    assert!(made.identical(&encoder).unwrap());
}

#[test]
fn a_method_of_a_child_has_the_childs_variables() {
    let (model, x) = (Autoencoder::new(), ones(&[1, 4]));
    let outer = |name: &'static str| {
        let model = model.clone();
        let x = &x;
        move |scope: &Scope| scope.child_named("inner", model)?.call_method(name, x)
    };
    let (_, variables) = Call::new().keys(key(0)).init(outer("__call__")).unwrap();
    let (code, _) = Call::new().apply(&variables, outer("encode")).unwrap();
    let inner = variables.subtree("inner").unwrap();
    let (expected, _) = Call::new().apply(&inner, |scope| model.encode(scope, &x)).unwrap();
    assert_eq!(to_vec(&code), to_vec(&expected));
    // A part is called with its own name.
    let part = apply(|scope| scope.call_named("encoder", &model.encoder, &x)).unwrap();
    assert_eq!(to_vec(&part), to_vec(&apply(|scope| model.encode(scope, &x)).unwrap()));
}

#[test]
fn an_unknown_method_says_which_there_are() {
    let (model, x) = (Autoencoder::new(), ones(&[1, 4]));
    assert_error::<_, ScopeError>(
        apply(|scope| scope.run_named(&model, "encod", &x)),
        "`Autoencoder` has no method `encod` to call by name, found `encode`, `decode`: name it in \
         `FunctionalModule::methods`, or call it in a closure",
    );
    let in_child = |scope: &Scope| {
        scope
            .child_named("outer", ())?
            .with(|(), scope| scope.child_named("encoder", Dense::new(2))?.call_method("forward", &x))
    };
    assert_error::<_, ScopeError>(
        apply(in_child),
        "at `outer.encoder`: `Dense` has no method `forward` to call by name, found none: name it in \
         `FunctionalModule::methods`, or call it in a closure",
    );
}

#[test]
fn methods_that_call_each_other_number_their_children_together() {
    let x = ones(&[1, 7]);
    let inner = |scope: &Scope, x: &Tensor| scope.call(&Dense::new(4), x);
    let outer = |scope: &Scope| scope.call(&Dense::new(3), &inner(scope, &x)?);
    let (_, variables) = Call::new().keys(key(0)).init(outer).unwrap();
    let kernel = |path: &str| variables.get("params", path).unwrap().tensor().unwrap().dims().to_vec();
    assert_eq!((kernel("Dense_0.kernel"), kernel("Dense_1.kernel")), (vec![7, 4], vec![4, 3]));
    assert_eq!(variables.len(), 4);
}

#[test]
fn a_method_can_have_a_scope_of_its_own() {
    let x = ones(&[1, 2]);
    let part = |scope: &Scope, name: &'static str| {
        scope.child_named(name, ())?.with(|(), scope| scope.call(&Dense::new(2), &x))
    };
    let f = |scope: &Scope| {
        scope.call(&Dense::new(2), &x)?;
        part(scope, "up")?;
        part(scope, "down")
    };
    let (_, variables) = Call::new().keys(key(0)).init(f).unwrap();
    let kernels: Vec<_> = paths(&variables).into_iter().filter(|path| path.ends_with("kernel")).collect();
    assert_eq!(kernels, ["params.Dense_0.kernel", "params.down.Dense_0.kernel", "params.up.Dense_0.kernel"]);
    let (up, _) = Call::new().apply(&variables, |scope| part(scope, "up")).unwrap();
    let expected = Dense::new(2).apply(&variables.subtree("up.Dense_0").unwrap(), &x).unwrap();
    assert_eq!(to_vec(&up), to_vec(&expected));
}

#[test]
fn functions_of_a_scope_need_no_module() {
    let x = ones(&[1, 2]);
    let f = |scope: &Scope| {
        let hidden = scope.call(&Dense::new(3), &x)?;
        Ok((scope.call(&Dense::new(3), &hidden)? + hidden)?)
    };
    let (first, variables) = Call::new().keys(key(0)).init(f).unwrap();
    let (second, nothing) = Call::new().apply(&variables, f).unwrap();
    assert_eq!(to_vec(&first), to_vec(&second));
    assert!(nothing.is_empty());
}

#[test]
fn a_module_without_variables_gives_none() {
    let double = Body(|_, x| Ok((x * 2.)?));
    let (y, variables) = double.init_with_output(Keys::none(), &ones(&[2])).unwrap();
    assert_eq!(to_vec(&y), [2., 2.]);
    assert!(variables.is_empty());
    assert_eq!(to_vec(&double.apply(&variables, &ones(&[1])).unwrap()), [2.]);
}

#[test]
fn init_inside_of_a_call_leaves_the_call_alone() {
    let x = ones(&[1, 2]);
    let f = |scope: &Scope| {
        let inner = Dense::new(3).init(key(7), &x)?;
        assert_eq!(paths(&inner), ["params.bias", "params.kernel"]);
        scope.call(&Dense::new(4), &x)?;
        Ok(inner)
    };
    let (inner, variables) = Call::new().keys(key(0)).init(f).unwrap();
    assert!(inner.identical(&Dense::new(3).init(key(7), &x).unwrap()).unwrap());
    assert_eq!(paths(&variables), ["params.Dense_0.bias", "params.Dense_0.kernel"]);
    let alone = Call::new().keys(key(0)).init(|scope| scope.call(&Dense::new(4), &x)).unwrap().1;
    assert!(variables.identical(&alone).unwrap());
}
