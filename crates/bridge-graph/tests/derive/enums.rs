//! Enums: the variant is description, its fields are as those of a struct.

use bridge_graph::{
    Field, GraphDef, StatefulModule, clone, graphdef, iter_modules, merge, replace, split, update,
};
use bridge_vars::Param;

use crate::{Activation, Linear, check, linear, param, read};

#[derive(StatefulModule)]
enum Head {
    Tied,
    #[module(rename = "own")]
    Own {
        kernel: Param,
        #[module(static)]
        activation: Activation,
        #[module(skip)]
        calls: Vec<u32>,
        #[module(rename = "b")]
        bias: Option<Param>,
    },
    Two(Linear, Param),
    r#Type {
        r#fn: Param,
    },
}

fn own(value: f32) -> Head {
    Head::Own {
        kernel: param(value),
        activation: Activation::Leaky { slope: 0.5 },
        calls: vec![3],
        bias: Some(param(value + 1.)),
    }
}

#[test]
fn variants_of_every_shape() {
    assert!(matches!(check(&Head::Tied, "Head", &[]), Head::Tied));
    match check(&own(2.), "Head", &["b", "kernel"]) {
        Head::Own { kernel, activation, calls, bias } => {
            assert_eq!((read(&kernel), bias.as_ref().map(read)), (2., Some(3.)));
            assert_eq!((activation, calls.len()), (Activation::Leaky { slope: 0.5 }, 0));
        }
        _ => panic!("another variant"),
    }
    match check(&Head::Two(linear(1.), param(2.)), "Head", &["0.kernel", "1"]) {
        Head::Two(linear, second) => assert_eq!((read(&linear.kernel), read(&second)), (1., 2.)),
        _ => panic!("another variant"),
    }
    match check(&Head::Type { r#fn: param(4.) }, "Head", &["fn"]) {
        Head::Type { r#fn } => assert_eq!(read(&r#fn), 4.),
        _ => panic!("another variant"),
    }
}

#[test]
fn generic_and_in_containers() {
    #[derive(StatefulModule)]
    enum Tree<T, const N: usize> {
        Leaf(T),
        Node { children: [Box<Self>; N] },
    }
    let leaf = |value| Box::new(Tree::<_, 2>::Leaf(param(value)));
    let tree = Tree::Node { children: [leaf(1.), Box::new(Tree::Node { children: [leaf(2.), leaf(3.)] })] };
    let paths = ["children.0.0", "children.1.children.0.0", "children.1.children.1.0"];
    check(&tree, "Tree", &paths);

    #[derive(StatefulModule)]
    struct Model {
        heads: Vec<Option<Head>>,
    }
    let model = Model { heads: vec![Some(own(1.)), None, Some(Head::Tied)] };
    check(&model, "Model", &["heads.0.b", "heads.0.kernel"]);
}

#[test]
fn an_enum_is_a_module_like_any() {
    let model = replace(
        &Head::Two(linear(1.), param(2.)),
        |head| match head {
            Head::Two(_, second) => second,
            _ => panic!("another variant"),
        },
        param(5.),
    )
    .unwrap();
    let mut names = Vec::new();
    iter_modules(&model, |path, module| {
        names.push(format!("{path}: {}", module.type_name()));
        Ok(())
    })
    .unwrap();
    assert_eq!(names, [": Head", "0: Linear"]);
    let boxed: Vec<Box<dyn StatefulModule>> = vec![Box::new(model), Box::new(Head::Tied)];
    let copy = clone(&boxed).unwrap();
    assert_eq!(graphdef(&copy).unwrap(), graphdef(&boxed).unwrap());
}

#[test]
fn the_variant_is_description() {
    let (tied, state) = split(&Head::Tied).unwrap();
    assert_ne!(tied, graphdef(&own(1.)).unwrap());
    assert!(tied.diff(&graphdef(&own(1.)).unwrap()).to_string().contains("own"));
    let error =
        update(&own(1.), &state.updated(&split(&Head::Two(linear(1.), param(1.))).unwrap().1).unwrap());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("0.kernel"), "{error}");
}

#[test]
fn what_an_enum_does_not_have_is_an_error() {
    #[derive(StatefulModule)]
    #[module(rename = "Head")]
    enum Other {
        Own(Param),
    }
    #[derive(StatefulModule)]
    #[module(rename = "Head")]
    struct Plain {
        kernel: Param,
    }
    #[derive(StatefulModule)]
    #[module(rename = "Head")]
    enum Never {}
    fn refused<M: Field>(head: &Head) -> String {
        let (graphdef, state) = split(head).unwrap();
        let graphdef = GraphDef::<M>::from_program(graphdef.program().clone());
        merge(&graphdef, &state).map(|_| ()).unwrap_err().to_string()
    }
    let error = refused::<Other>(&own(1.));
    assert_eq!(error, "the `GraphDef` has `own`, the type expects a variant of `Head`: `Own`");
    let error = refused::<Plain>(&Head::Type { r#fn: param(1.) });
    assert!(error.contains("Type") && error.contains("Head"), "{error}");
    let error = refused::<Never>(&Head::Tied);
    assert!(error.contains("which has none"), "{error}");
    let error = refused::<Linear>(&Head::Tied);
    assert!(error.contains("Linear") && error.contains("Tied"), "{error}");
}
