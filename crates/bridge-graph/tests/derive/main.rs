//! `#[derive(StatefulModule)]` in use.
#![forbid(unsafe_code)]
#![deny(deprecated, trivial_bounds, private_bounds)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod enums;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use bridge_graph::{Field, Shared, StatefulModule, Static, Visit, graphdef, merge, split};
use bridge_vars::{BatchStat, Param, State, VariableKind, VariableOf};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

fn param(value: f32) -> Param {
    Param::new(Tensor::new(value, &Device::Cpu).unwrap())
}

fn read(param: &Param) -> f32 {
    param.value().unwrap().to_scalar().unwrap()
}

fn paths(state: &State) -> Vec<String> {
    state.iter().map(|(path, _)| path.to_string()).collect()
}

/// Splits and merges a module whose state has these paths; what comes back splits into the same halves.
fn check<M: Field + StatefulModule>(module: &M, name: &str, expected: &[&str]) -> M {
    assert_eq!(module.type_name(), name);
    assert_eq!(M::static_type_name(), name);
    let (graphdef, state) = split(module).unwrap();
    assert_eq!(paths(&state), expected);
    let merged = merge(&graphdef, &state).unwrap();
    let (graphdef_again, state_again) = split(&merged).unwrap();
    assert_eq!(graphdef, graphdef_again);
    assert!(state.identical(&state_again).unwrap());
    merged
}

#[derive(StatefulModule)]
struct Linear {
    kernel: Param,
    bias: Option<Param>,
    features: usize,
}

fn linear(value: f32) -> Linear {
    Linear { kernel: param(value), bias: None, features: 1 }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Activation {
    Relu,
    Leaky { slope: f64 },
}

#[test]
fn named_struct() {
    let module = Linear { kernel: param(2.), bias: Some(param(3.)), features: 7 };
    let merged = check(&module, "Linear", &["bias", "kernel"]);
    assert_eq!((read(&merged.kernel), merged.bias.as_ref().map(read), merged.features), (2., Some(3.), 7));
    assert!(!merged.kernel.is_same(&module.kernel));
    assert!(check(&linear(1.), "Linear", &["kernel"]).bias.is_none());
}

#[test]
fn nested_and_in_containers() {
    #[derive(StatefulModule)]
    struct Net {
        stem: Box<Linear>,
        blocks: Vec<Linear>,
        pair: (Linear, f32),
        heads: BTreeMap<String, Linear>,
        two: [Linear; 2],
        mean: BatchStat,
    }
    let net = Net {
        stem: Box::new(linear(1.)),
        blocks: vec![linear(2.), linear(3.)],
        pair: (linear(4.), 0.5),
        heads: [("b".to_owned(), linear(5.)), ("a".to_owned(), linear(6.))].into(),
        two: [linear(7.), linear(8.)],
        mean: BatchStat::new(Tensor::new(9f32, &Device::Cpu).unwrap()),
    };
    let expected = [
        "blocks.0.kernel",
        "blocks.1.kernel",
        "heads.a.kernel",
        "heads.b.kernel",
        "mean",
        "pair.0.kernel",
        "stem.kernel",
        "two.0.kernel",
        "two.1.kernel",
    ];
    let merged = check(&net, "Net", &expected);
    assert_eq!(read(&merged.blocks[1].kernel), 3.);
    assert_eq!(read(&merged.heads["a"].kernel), 6.);
    assert_eq!(merged.pair.1, 0.5);
}

#[test]
fn a_type_alias_changes_nothing() {
    type Weights = Vec<Param>;
    #[derive(StatefulModule)]
    struct Net {
        weights: Weights,
    }
    check(&Net { weights: vec![param(1.)] }, "Net", &["weights.0"]);
}

#[test]
fn tuple_structs_have_indices() {
    #[derive(StatefulModule)]
    struct Many(Param, u8, Param, Param, Param, Param, Param, Param, Param, Param, Param);
    let many = Many(
        param(0.),
        1,
        param(2.),
        param(3.),
        param(4.),
        param(5.),
        param(6.),
        param(7.),
        param(8.),
        param(9.),
        param(10.),
    );
    let merged = check(&many, "Many", &["0", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    assert_eq!((read(&merged.0), merged.1, read(&merged.10)), (0., 1, 10.));
}

#[test]
fn unit_and_empty_structs() {
    #[derive(StatefulModule)]
    struct Identity;
    #[derive(StatefulModule)]
    struct Braces {}
    #[derive(StatefulModule)]
    struct Parentheses();
    check(&Identity, "Identity", &[]);
    check(&Braces {}, "Braces", &[]);
    check(&Parentheses(), "Parentheses", &[]);
}

#[test]
fn renamed() {
    #[derive(StatefulModule)]
    #[module(rename = "Dense")]
    struct Renamed {
        #[module(rename = "z")]
        a: Param,
        #[module(rename = "a")]
        b: Param,
        #[module(static, rename = "0")]
        c: Activation,
    }
    let module = Renamed { a: param(1.), b: param(2.), c: Activation::Relu };
    let merged = check(&module, "Dense", &["a", "z"]);
    assert_eq!((read(&merged.a), read(&merged.b)), (1., 2.));

    #[derive(StatefulModule)]
    struct Tuple(#[module(rename = "first")] Param, Param);
    let merged = check(&Tuple(param(1.), param(2.)), "Tuple", &["1", "first"]);
    assert_eq!((read(&merged.0), read(&merged.1)), (1., 2.));
}

#[test]
fn raw_names() {
    #[derive(StatefulModule)]
    #[allow(non_camel_case_types, reason = "a keyword is written like that")]
    struct r#struct {
        r#type: Param,
        r#move: u32,
    }
    let merged = check(&r#struct { r#type: param(4.), r#move: 2 }, "struct", &["type"]);
    assert_eq!((read(&merged.r#type), merged.r#move), (4., 2));
}

#[test]
fn static_fields_are_description() {
    #[derive(StatefulModule)]
    struct Act {
        #[module(static)]
        activation: Activation,
    }
    let of = |activation: Activation| graphdef(&Act { activation }).unwrap();
    assert_eq!(of(Activation::Relu), of(Activation::Relu));
    assert_ne!(of(Activation::Relu), of(Activation::Leaky { slope: 0.1 }));
    let merged = check(&Act { activation: Activation::Leaky { slope: 0.5 } }, "Act", &[]);
    assert_eq!(merged.activation, Activation::Leaky { slope: 0.5 });
}

#[test]
fn skipped_fields_are_rebuilt_by_default() {
    struct Calls(Vec<u32>);
    impl Default for Calls {
        fn default() -> Self {
            Self(vec![7])
        }
    }
    #[derive(StatefulModule)]
    struct Net {
        #[module(skip)]
        calls: Calls,
        scale: Param,
        // A skipped field takes no key away.
        #[module(rename = "calls")]
        count: Param,
    }
    let net = Net { calls: Calls(vec![1, 2]), scale: param(1.), count: param(2.) };
    let merged = check(&net, "Net", &["calls", "scale"]);
    assert_eq!((merged.calls.0, read(&merged.count)), (vec![7], 2.));
}

#[test]
fn generic_over_modules() {
    #[derive(StatefulModule)]
    struct Residual<M, const N: usize = 1> {
        inner: M,
        stack: [Shared<M>; N],
        scale: Param,
    }
    let shared = Shared::new(linear(1.));
    let module = Residual { inner: linear(2.), stack: [shared.clone(), shared], scale: param(3.) };
    let merged = check(&module, "Residual", &["inner.kernel", "scale", "stack.0.kernel"]);
    assert!(merged.stack[0].is_same(&merged.stack[1]));

    let outer = Residual {
        inner: Residual::<u8, 0> { inner: 1, stack: [], scale: param(1.) },
        stack: [],
        scale: param(1.),
    };
    check::<Residual<_, 0>>(&outer, "Residual", &["inner.scale", "scale"]);
}

#[test]
fn generic_fields_share_variables() {
    #[derive(StatefulModule)]
    struct Tied<A, B> {
        decoder: A,
        encoder: B,
    }
    let encoder = linear(1.);
    let tied = Tied { decoder: encoder.kernel.clone(), encoder };
    let merged = check(&tied, "Tied", &["decoder"]);
    assert!(merged.decoder.is_same(&merged.encoder.kernel));
}

/// What the parameter must be depends on what its field does with it.
#[test]
fn generic_bounds_follow_the_fields() {
    #[derive(StatefulModule)]
    struct Parts<K: VariableKind, C, P, const N: usize>
    where
        C: PartialEq,
        [C; N]: Default,
    {
        variable: VariableOf<K>,
        #[module(static)]
        config: C,
        #[module(skip)]
        marker: PhantomData<P>,
        sizes: [usize; N],
        #[module(skip)]
        cache: [C; N],
    }
    bridge_vars::kinds! { Scale(ScaleKind) in "scales"; }
    /// Neither a module nor serde's.
    struct Opaque;
    let parts = Parts::<ScaleKind, String, Opaque, 3> {
        variable: Scale::new(Tensor::new(1f32, &Device::Cpu).unwrap()),
        config: "a".to_owned(),
        marker: PhantomData,
        sizes: [1, 2, 3],
        cache: ["x".to_owned(), String::new(), String::new()],
    };
    let merged = check(&parts, "Parts", &["variable"]);
    assert_eq!((merged.config.as_str(), merged.sizes, merged.cache[0].as_str()), ("a", [1, 2, 3], ""));
}

#[test]
fn contains_itself() {
    #[derive(StatefulModule)]
    struct List<T> {
        value: T,
        next: Option<Box<Self>>,
    }
    #[derive(StatefulModule)]
    struct Tree {
        value: Param,
        children: Vec<Tree>,
    }
    let list = List { value: param(1.), next: Some(Box::new(List { value: param(2.), next: None })) };
    let merged = check(&list, "List", &["next.value", "value"]);
    assert_eq!(merged.next.map(|next| read(&next.value)), Some(2.));

    let leaf = |value| Tree { value: param(value), children: vec![] };
    let tree = Tree { value: param(1.), children: vec![leaf(2.), leaf(3.)] };
    check(&tree, "Tree", &["children.0.value", "children.1.value", "value"]);
}

#[test]
fn contain_each_other() {
    #[derive(StatefulModule)]
    struct Even {
        value: Param,
        odd: Option<Box<Odd>>,
    }
    #[derive(StatefulModule)]
    struct Odd(Vec<Even>);
    let even = Even { value: param(1.), odd: None };
    let even = Even { value: param(2.), odd: Some(Box::new(Odd(vec![even]))) };
    check(&even, "Even", &["odd.0.0.value", "value"]);
}

#[test]
fn other_derives_stand_beside_it() {
    #[derive(Clone, Debug, PartialEq, Default, StatefulModule, Serialize, Deserialize)]
    struct Plain {
        #[serde(default)]
        size: u32,
    }
    let plain = Plain { size: 3 };
    assert_eq!(check(&plain, "Plain", &[]), plain.clone());
}

#[test]
fn a_module_can_be_boxed() {
    let module: Box<dyn StatefulModule> = Box::new(linear(1.));
    assert_eq!(module.type_name(), "Linear");
    assert_eq!(paths(&bridge_graph::state(&*module).unwrap()), ["kernel"]);
}

#[test]
fn names_in_scope_do_not_reach_the_expansion() {
    #![allow(dead_code, reason = "they only stand in the way")]
    mod std {}
    mod core {}
    trait Visit {}
    trait Field {}
    struct Ok;
    struct Some;
    struct Result;
    struct PathKey;

    #[derive(StatefulModule)]
    struct Module {
        visitor: Param,
        source: Param,
        field_0: Param,
        r#self_: Param,
    }
    let module = Module { visitor: param(1.), source: param(2.), field_0: param(3.), self_: param(4.) };
    check(&module, "Module", &["field_0", "self_", "source", "visitor"]);
}

/// Derives in a macro, where types come in invisible groups, and a deprecated field.
#[test]
fn in_a_macro() {
    macro_rules! module {
        ($name:ident, $parameter:ident, $type:ty) => {
            #[derive(StatefulModule)]
            struct $name<$parameter> {
                inner: $type,
                #[deprecated]
                old: u8,
            }
            #[derive(StatefulModule)]
            struct Tuple(#[deprecated] u8);
        };
    }
    module!(FromMacro, T, Vec<T>);
    #[allow(deprecated, reason = "the test is about their fields")]
    let (module, tuple) = (FromMacro { inner: vec![param(1.)], old: 1 }, Tuple(1));
    check(&module, "FromMacro", &["inner.0"]);
    check(&tuple, "Tuple", &[]);
}

/// The path of the crate can be another one.
#[test]
fn root() {
    mod renamed {
        pub(crate) use bridge_graph as graph;
    }
    #[derive(StatefulModule)]
    #[module(crate = "renamed::graph")]
    struct Net(Param);
    check(&Net(param(1.)), "Net", &["0"]);
}

#[test]
fn given_bounds_replace_the_derived_ones() {
    trait Layer: Field {}
    impl Layer for Linear {}

    // Generic types that contain each other: the bounds of one would need those of the other.
    #[derive(StatefulModule)]
    #[module(bound = "T: Field")]
    struct Even<T> {
        value: T,
        odd: Option<Box<Odd<T>>>,
    }
    #[derive(StatefulModule)]
    struct Odd<T>(#[module(bound = "T: Field")] Vec<Even<T>>);
    let even = Even { value: param(1.), odd: None };
    let even = Even { value: param(2.), odd: Some(Box::new(Odd(vec![even]))) };
    check(&even, "Even", &["odd.0.0.value", "value"]);

    #[derive(StatefulModule)]
    struct Stack<L: Layer> {
        #[module(bound = "")]
        layers: Vec<L>,
    }
    fn stack<L: Layer>(layers: Vec<L>) {
        check(&Stack { layers }, "Stack", &["layers.0.kernel"]);
    }
    stack(vec![linear(1.)]);
}

#[test]
fn bounds_hold_where_they_should() {
    fn module<M: StatefulModule + Field>() {}
    #[derive(StatefulModule)]
    struct Holder<T>(Vec<T>);
    fn generic<T: Field>() {
        module::<Holder<Holder<T>>>();
    }
    fn visit<T: Visit>() {}
    fn static_<T: Static>() {}
    generic::<Linear>();
    visit::<Linear>();
    static_::<Activation>();
}

#[test]
fn a_description_of_another_type_is_refused() {
    #[derive(StatefulModule)]
    struct Old {
        kernel: Param,
        gain: u32,
    }
    #[derive(StatefulModule)]
    #[module(rename = "Old")]
    struct New {
        kernel: Param,
        scale: u32,
    }
    let (graphdef, state) = split(&Old { kernel: param(1.), gain: 2 }).unwrap();
    let graphdef = bridge_graph::GraphDef::<New>::from_program(graphdef.program().clone());
    let error = merge(&graphdef, &state).map(|new| (new.kernel, new.scale)).unwrap_err().to_string();
    assert!(error.contains("`gain`") && error.contains("`kernel`"), "{error}");
    let graphdef = bridge_graph::GraphDef::<Linear>::from_program(graphdef.program().clone());
    let error = merge(&graphdef, &state).map(|linear| linear.features).unwrap_err().to_string();
    assert!(error.contains("Old") && error.contains("Linear"), "{error}");
}
