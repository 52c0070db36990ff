//! Modules in lists, maps and sequences.

use std::collections::BTreeMap;

use bridge_functional::{
    Activation, BoxedModule, Call, Dense, FunctionalModule, Keys, Scope, ScopeError, Sequential,
};
use bridge_random::{Initializer, key};
use bridge_vars::{Result, Variables};
use candle_core::Tensor;

use crate::support::{Body, assert_error, init, ones, param, paths, scalar, to_vec, values};

fn kernels(variables: &Variables) -> Vec<String> {
    paths(variables).iter().filter_map(|path| path.strip_suffix(".kernel")).map(String::from).collect()
}

fn dense(features: usize) -> Dense {
    Dense::new(features).kernel_init(Initializer::Ones)
}

#[test]
fn a_list_of_modules_is_named_by_place() {
    let x = ones(&[1, 2]);
    let variables = init(|scope| {
        let layers = scope.children("layers", &[dense(3), dense(4), dense(5)])?;
        assert_eq!(layers.iter().map(|layer| layer.module().features).collect::<Vec<_>>(), [3, 4, 5]);
        // The second is never called, and leaves nothing behind.
        layers[2].call(&layers[0].call(&x)?).map(|_| ())
    });
    assert_eq!(kernels(&variables.unwrap()), ["params.layers_0", "params.layers_2"]);
}

#[test]
fn a_map_of_modules_is_named_by_key() {
    let x = ones(&[1, 2]);
    let heads = BTreeMap::from([("right".to_owned(), dense(4)), ("left".to_owned(), dense(3))]);
    let variables = init(|scope| {
        let heads = scope.child_map("heads", &heads)?;
        assert!(heads.keys().eq(["left", "right"]));
        heads["right"].call(&x)?;
        heads["left"].call(&x).map(|_| ())
    })
    .unwrap();
    assert_eq!(kernels(&variables), ["params.heads_left", "params.heads_right"]);
    assert_eq!(values(&variables, "params", "heads_left.kernel").len(), 6);
}

#[test]
fn keys_of_a_map_are_anything_that_prints() {
    let experts = BTreeMap::from([(10u32, dense(2)), (9, dense(3))]);
    let variables = init(|scope| {
        let experts = scope.child_map("experts", &experts)?;
        assert!(experts.keys().eq(&[9, 10]));
        experts.values().try_for_each(|expert| expert.call(&ones(&[1, 2])).map(|_| ()))
    });
    assert_eq!(kernels(&variables.unwrap()), ["params.experts_10", "params.experts_9"]);
}

#[test]
fn names_of_ones_own_replace_those_of_places() {
    let x = ones(&[1, 2]);
    let variables = init(|scope| {
        let named = |index| scope.child_named(format!("layer_{index}"), dense(2));
        let layers = (0..3).map(named).collect::<Result<Vec<_>>>()?;
        layers.iter().try_fold(x.clone(), |x, layer| layer.call(&x)).map(|_| ())
    });
    assert_eq!(kernels(&variables.unwrap()), ["params.layer_0", "params.layer_1", "params.layer_2"]);
}

#[test]
fn names_of_containers_are_taken() {
    let check = |path: &str, f: &dyn Fn(&Scope) -> Result<()>| {
        let text = "is there twice: give one another name, or keep the first in a handle and use it again";
        assert_error::<_, ScopeError>(init(f), &format!("`{path}` {text}"));
    };
    check("layers_0", &|scope| {
        scope.children("layers", &[dense(2)])?;
        scope.children("layers", &[dense(2)]).map(|_| ())
    });
    check("layers_1", &|scope| {
        param(scope, "layers_1")?;
        scope.children("layers", &[dense(2), dense(2)]).map(|_| ())
    });
    check("heads_a", &|scope| {
        scope.child_named("heads_a", ())?;
        scope.child_map("heads", &BTreeMap::from([("a".to_owned(), dense(2))])).map(|_| ())
    });
}

#[test]
fn one_child_under_several_keys_is_one_child() {
    let count = Body(|scope, x| {
        let calls = scope.variable("counts", "calls", || Ok(0))?;
        calls.set(calls.count()? + 1)?;
        Ok(x.clone())
    });
    let f = |scope: &Scope| {
        let shared = scope.child_named("A_bar", count.clone())?;
        let children = BTreeMap::from(["foo", "bar", "baz"].map(|key| (key, shared.clone())));
        children.values().try_for_each(|child| child.call(&scalar(1.)).map(|_| ()))
    };
    let (_, variables) = Call::new().init(f).unwrap();
    assert_eq!(paths(&variables), ["counts.A_bar.calls"]);
    let (_, state) = Call::new().mutable("counts").apply(&variables, f).unwrap();
    assert_eq!(state.get("counts", "A_bar.calls").unwrap().value.count().unwrap(), 6);
}

#[test]
fn a_sequence_is_the_same_as_its_modules_by_hand() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mlp(Option<Activation>);
    impl FunctionalModule for Mlp {
        type Output = Tensor;
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
            let mut x = scope.call_named("layers_0", &dense(4), x)?;
            let mut last = "layers_1";
            if let Some(activation) = self.0 {
                x = activation.forward(&x)?;
                last = "layers_2";
            }
            let y = scope.call_named(last, &dense(2), &x)?;
            Ok(match self.0 {
                Some(activation) => activation.forward(&y)?,
                None => y,
            })
        }
    }
    let x = (ones(&[3, 1, 5]) * -0.25).unwrap();
    let check = |sequence: &dyn Fn() -> (Tensor, Variables), activation: Option<Activation>| {
        let (y, variables) = sequence();
        let (expected, by_hand) = Mlp(activation).init_with_output(key(0), &x).unwrap();
        assert_eq!(y.dims(), [3, 1, 2]);
        assert_eq!(to_vec(&y), to_vec(&expected));
        assert!(variables.identical(&by_hand).unwrap());
    };
    let plain = Sequential::new((dense(4), dense(2)));
    check(&|| plain.init_with_output(key(0), &x).unwrap(), None);
    for activation in [Activation::Relu, Activation::Tanh, Activation::Silu] {
        let tuple = Sequential::new((dense(4), activation, dense(2), activation));
        check(&|| tuple.init_with_output(key(0), &x).unwrap(), Some(activation));
        let list = Sequential::dynamic().with(dense(4)).with(activation).with(dense(2)).with(activation);
        check(&|| list.init_with_output(key(0), &x).unwrap(), Some(activation));
    }
}

#[test]
fn a_sequence_of_none_gives_its_input() {
    let empty = Sequential::dynamic();
    let (y, variables) = empty.init_with_output(Keys::none(), &scalar(12.)).unwrap();
    assert_eq!(to_vec(&y), [12.]);
    assert!(variables.is_empty());
    let typed = Sequential::<Vec<Dense>>::default();
    assert_eq!(to_vec(&typed.apply(&variables, &scalar(12.)).unwrap()), [12.]);
}

#[test]
fn what_one_module_gives_the_next_one_takes() {
    #[derive(Clone, Debug, PartialEq)]
    struct Split;
    impl FunctionalModule for Split {
        type Output = (Tensor, Tensor);
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<(Tensor, Tensor)> {
            Ok((scope.call(&dense(5), x)?, scope.call(&dense(7), x)?))
        }
    }
    #[derive(Clone, Debug, PartialEq)]
    struct Name;
    impl FunctionalModule<(Tensor, Tensor)> for Name {
        type Output = BTreeMap<String, Tensor>;
        fn call(&self, _: &Scope, (a, b): &(Tensor, Tensor)) -> Result<Self::Output> {
            Ok(BTreeMap::from([("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())]))
        }
    }
    #[derive(Clone, Debug, PartialEq)]
    struct Sizes;
    impl FunctionalModule<BTreeMap<String, Tensor>> for Sizes {
        type Output = Vec<usize>;
        fn call(&self, _: &Scope, named: &BTreeMap<String, Tensor>) -> Result<Vec<usize>> {
            named.values().map(|tensor| Ok(tensor.dim(1)?)).collect()
        }
    }
    let model = Sequential::new((dense(3), Split, Name, Sizes));
    let (sizes, variables) = model.init_with_output(key(0), &ones(&[2, 4])).unwrap();
    assert_eq!(sizes, [5, 7]);
    let expected = ["params.layers_0", "params.layers_1.Dense_0", "params.layers_1.Dense_1"];
    assert_eq!(kernels(&variables), expected);
}

#[test]
fn modules_that_a_closure_makes_are_named_in_the_sequence() {
    // As in `Sequential([lambda x: Dense(4)(x), ..])`: the children of a function's scope.
    let f = |scope: &Scope| {
        let sizes = [4, 4, 3];
        sizes.into_iter().try_fold(ones(&[1, 2]), |x, features| scope.call(&dense(features), &x))
    };
    let (_, variables) = Call::new().keys(key(0)).init(f).unwrap();
    assert_eq!(kernels(&variables), ["params.Dense_0", "params.Dense_1", "params.Dense_2"]);
}

#[test]
fn a_sequence_of_twelve_has_twelve_names() {
    let d = || dense(2);
    let twelve = Sequential::new((d(), d(), d(), d(), d(), d(), d(), d(), d(), d(), d(), dense(3)));
    let (y, variables) = twelve.init_with_output(key(0), &ones(&[1, 2])).unwrap();
    assert_eq!(y.dims(), [1, 3]);
    let mut found = kernels(&variables);
    found.sort_by_key(|name| name.trim_start_matches("params.layers_").parse::<usize>().unwrap());
    assert_eq!(found, (0..12).map(|index| format!("params.layers_{index}")).collect::<Vec<_>>());
    let list = Sequential::new(twelve_of(&twelve)).init(key(0), &ones(&[1, 2])).unwrap();
    assert!(list.identical(&variables).unwrap());
}

type Twelve = (Dense, Dense, Dense, Dense, Dense, Dense, Dense, Dense, Dense, Dense, Dense, Dense);

fn twelve_of(sequence: &Sequential<Twelve>) -> Vec<Dense> {
    let mut list = vec![sequence.layers.0.clone(); 11];
    list.push(sequence.layers.11.clone());
    list
}

#[test]
fn an_error_in_a_sequence_says_in_which_module() {
    let model = Sequential::new((dense(3), Sequential::new(vec![dense(3), dense(4)])));
    let variables = model.init(key(0), &ones(&[1, 2])).unwrap();
    let other = Sequential::new((dense(3), Sequential::new(vec![dense(3), dense(5)])));
    assert_error::<_, ScopeError>(
        other.apply(&variables, &ones(&[1, 2])),
        "parameter `layers_1.layers_1.kernel`: the module makes it [3, 5], the variables hold [3, 4]: they belong to \
         another configuration or input",
    );
}

#[test]
fn a_sequence_has_a_serde_form_where_its_modules_have_one() {
    let model = Sequential::new((dense(3), Activation::Relu, Sequential::new(vec![dense(2)])));
    let json = serde_json::to_string(&model).unwrap();
    let back: Sequential<(Dense, Activation, Sequential<Vec<Dense>>)> = serde_json::from_str(&json).unwrap();
    assert_eq!(back, model);
    let boxed = Sequential::dynamic().with(dense(3));
    let text = "a boxed module has no serde form: use a tuple in `Sequential`, or an enum of modules";
    assert_eq!(serde_json::to_string(&boxed).unwrap_err().to_string(), text);
    let read = serde_json::from_str::<Sequential<Vec<BoxedModule>>>("{\"layers\": [1]}").unwrap_err();
    assert!(read.to_string().starts_with(text), "{read}");
}

#[test]
fn boxed_modules_are_equal_if_their_modules_are() {
    assert_eq!(BoxedModule::new(dense(3)), BoxedModule::new(dense(3)));
    assert_ne!(BoxedModule::new(dense(3)), BoxedModule::new(dense(4)));
    assert_ne!(BoxedModule::new(dense(3)), BoxedModule::new(Activation::Relu));
    assert_eq!(Sequential::dynamic().with(dense(3)), Sequential::dynamic().with(dense(3)));
    let boxed = BoxedModule::new(dense(3));
    assert_eq!(boxed, boxed.clone());
    assert_eq!(format!("{boxed:?}"), format!("{:?}", dense(3)));
}

#[test]
fn a_boxed_module_has_the_variables_of_its_module() {
    let x = ones(&[1, 2]);
    let variables = dense(3).init(key(0), &x).unwrap();
    let boxed = BoxedModule::new(dense(3));
    assert!(boxed.init(key(0), &x).unwrap().identical(&variables).unwrap());
    let twice = BoxedModule::new(boxed.clone());
    assert_eq!(
        to_vec(&twice.apply(&variables, &x).unwrap()),
        to_vec(&dense(3).apply(&variables, &x).unwrap())
    );
}
