//! Tables of modules and their variables.

use std::collections::BTreeMap;

use bridge_functional::{
    BatchNorm, Call, Dense, Dropout, FunctionalModule, Method, Mode, Scope, ScopeError, Sequential,
};
use bridge_graph::{Count, Summary, SummaryRow};
use bridge_ops::stand_in;
use bridge_random::{Initializer, key};
use bridge_vars::{Path, Result, Value, with_partitioning};
use candle_core::{DType, Shape, Tensor};

use crate::support::{Body, Counter, assert_error, device, ones, param};

#[derive(Clone, Debug, PartialEq)]
struct Block {
    features: usize,
}

impl FunctionalModule for Block {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call_named("dense", &Dense::new(self.features).without_bias(), x)?;
        let x = scope.call_named("norm", &BatchNorm::new(), &x)?;
        let x = scope.call_named("dropout", &Dropout::new(0.5), &x)?;
        Ok(bridge_ops::relu(&x)?)
    }
    fn methods() -> Vec<(&'static str, Method<Self>)> {
        vec![("forward", Self::call)]
    }
}

/// Two blocks and a head; gives the sum of its logits beside them.
#[derive(Clone, Debug, PartialEq)]
struct Model;

impl FunctionalModule for Model {
    type Output = (Tensor, Vec<Tensor>);
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let x = scope.call_named("block1", &Block { features: 32 }, x)?;
        let x = scope.call_named("block2", &Block { features: 64 }, &x)?;
        scope.sow("intermediates", "hidden", &x)?;
        let logits = scope.call_named("head", &Dense::new(10), &x)?;
        Ok((logits.clone(), vec![x]))
    }
}

fn input(shape: impl Into<Shape>) -> Tensor {
    stand_in(shape, DType::F32, &device()).unwrap()
}

fn summary() -> Summary {
    Model.tabulate(&input((4, 28))).unwrap()
}

fn table(f: impl FnOnce(&Scope) -> Result<()>) -> Summary {
    Call::new().tabulate(f).unwrap()
}

/// Path, module and calls of each row.
fn outline(summary: &Summary) -> Vec<String> {
    let line = |row: &SummaryRow| format!("{} {} {}", row.path, row.module, row.calls);
    summary.rows().iter().map(line).collect()
}

fn row(summary: &Summary, path: &str) -> SummaryRow {
    summary.row(path).unwrap().clone()
}

fn count(elements: usize, bytes: usize) -> Count {
    Count { elements, bytes }
}

#[test]
fn rows_stand_in_the_order_of_the_calls() {
    let expected = [
        " Model 1",
        "block1 Block 1",
        "block1.dense Dense 1",
        "block1.norm BatchNorm 1",
        "block1.dropout Dropout 1",
        "block2 Block 1",
        "block2.dense Dense 1",
        "block2.norm BatchNorm 1",
        "block2.dropout Dropout 1",
        "head Dense 1",
    ];
    assert_eq!(outline(&summary()), expected);
}

#[test]
fn a_row_has_what_its_module_takes_gives_and_owns() {
    let summary = summary();
    let root = row(&summary, "");
    assert_eq!(root.inputs.unwrap(), "f32[4, 28]");
    assert_eq!(root.outputs.unwrap(), "(f32[4, 10], [f32[4, 64]])");
    assert!(root.variables.is_empty() && root.counts.is_empty());
    assert!(row(&summary, "block1").counts.is_empty());
    let norm = row(&summary, "block1.norm");
    assert_eq!((norm.inputs.unwrap(), norm.outputs.unwrap()), ("f32[4, 32]".into(), "f32[4, 32]".into()));
    let of = |collection: &str| norm.counts.get(collection).copied();
    assert_eq!((of("batch_stats"), of("params")), (Some(count(64, 256)), Some(count(64, 256))));
    let variables = norm.variables.iter();
    let variables: Vec<_> = variables.map(|v| format!("{} {} {}", v.collection, v.path, v.form)).collect();
    let expected = ["batch_stats mean", "batch_stats var", "params bias", "params scale"];
    assert_eq!(variables, expected.map(|variable| format!("{variable} f32[32]")));
    assert!(summary.row("block3").is_none());
}

/// The totals are what the variables of `init` come to.
#[track_caller]
fn check_totals<F: FunctionalModule>(module: &F) {
    let x = ones(&[4, 28]);
    let summary = module.tabulate(&input((4, 28))).unwrap();
    let mut expected: BTreeMap<String, Count> = BTreeMap::new();
    for (path, leaf) in module.eval().init(key(0), &x).unwrap().iter() {
        let found = match &leaf.value {
            Value::Tensor(tensor) => {
                count(tensor.element_count(), tensor.element_count() * tensor.dtype().size_in_bytes())
            }
            _ => count(1, 4),
        };
        let total = expected.entry(path.keys()[0].to_string()).or_default();
        *total = count(total.elements + found.elements, total.bytes + found.bytes);
    }
    assert_eq!(summary.totals(), &expected);
    let sum = |of: fn(&Count) -> usize| expected.values().map(of).sum::<usize>();
    assert_eq!(summary.total(), count(sum(|count| count.elements), sum(|count| count.bytes)));
    // Rows count each variable once, at any depth.
    for depth in 0..4 {
        let rows = summary.depth(depth);
        let in_rows = rows.rows().iter().flat_map(|row| row.counts.values());
        assert_eq!(in_rows.map(|count| count.elements).sum::<usize>(), summary.total().elements, "{depth}");
        assert_eq!(rows.totals(), summary.totals());
    }
}

#[test]
fn totals_are_what_the_variables_come_to() {
    check_totals(&Model);
    check_totals(&Counter);
    check_totals(&Dense::new(7));
    check_totals(&Sequential::new(vec![Dense::new(28); 5]));
    // Called twice, and shared by two.
    check_totals(&Body(|scope, x| {
        let shared = scope.child(Dense::new(28))?;
        let inner = |scope: &Scope| shared.call(&scope.call(&Dense::new(28), x)?);
        scope.child_named("a", ())?.with(|(), scope| inner(scope))?;
        shared.call(&scope.child_named("b", ())?.with(|(), scope| inner(scope))?)
    }));
    check_totals(&Body(|scope, x| {
        let own = scope.param("own", &Initializer::Zeros, (3, 5), DType::F64, x.device())?;
        Ok(own)
    }));
    assert_eq!(summary().total(), count(3_978, 15_912));
    let two = Sequential::new((Dense::new(4), Dense::new(2))).tabulate(&input((1, 9))).unwrap();
    assert_eq!(two.total(), count(50, 200));
}

#[test]
fn a_depth_gathers_what_is_below_it() {
    let summary = summary().depth(1);
    let expected = [" Model 1", "block1 Block 1", "block2 Block 1", "head Dense 1"];
    assert_eq!(outline(&summary), expected);
    let block = row(&summary, "block1");
    assert_eq!(block.counts["params"], count(960, 3_840));
    assert_eq!(block.counts["batch_stats"], count(64, 256));
    assert_eq!((block.inputs.unwrap(), block.outputs.unwrap()), ("f32[4, 28]".into(), "f32[4, 32]".into()));
    let paths: Vec<String> = block.variables.iter().map(|variable| variable.path.to_string()).collect();
    assert_eq!(paths, ["dense.kernel", "norm.mean", "norm.var", "norm.bias", "norm.scale"]);
    assert!(row(&summary, "").counts.is_empty());
    let whole = self::summary().depth(0);
    assert_eq!(outline(&whole), [" Model 1"]);
    assert_eq!(row(&whole, "").counts["params"], count(3_786, 15_144));
    assert_eq!(outline(&self::summary().depth(2)), outline(&self::summary()));
}

#[test]
fn a_table_prints() {
    let expected = "\
path            module     inputs      outputs                     batch_stats  params
-----------------------------------------------------------------------------------------------
(root)          Model      f32[4, 28]  (f32[4, 10], [f32[4, 64]])
block1          Block      f32[4, 28]  f32[4, 32]
block1.dense    Dense      f32[4, 28]  f32[4, 32]                               896 (3.6 kB)
block1.norm     BatchNorm  f32[4, 32]  f32[4, 32]                  64 (256 B)   64 (256 B)
block1.dropout  Dropout    f32[4, 32]  f32[4, 32]
block2          Block      f32[4, 32]  f32[4, 64]
block2.dense    Dense      f32[4, 32]  f32[4, 64]                               2,048 (8.2 kB)
block2.norm     BatchNorm  f32[4, 64]  f32[4, 64]                  128 (512 B)  128 (512 B)
block2.dropout  Dropout    f32[4, 64]  f32[4, 64]
head            Dense      f32[4, 64]  f32[4, 10]                               650 (2.6 kB)
-----------------------------------------------------------------------------------------------
total                                                              192 (768 B)  3,786 (15.1 kB)
Total: 3,978 (15.9 kB)";
    assert_eq!(format!("{:100}", summary()), expected);
}

#[test]
fn a_table_fits_the_width_that_was_asked_for() {
    // Words can shrink to eight letters each; numbers stay whole.
    for width in [76, 80, 90, 95, 100, 200] {
        let text = format!("{:width$}", summary());
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width, "{width}: {longest}");
        // No more is cut than has to be.
        assert!(longest == width.min(95), "{width}: {longest}");
        for number in ["2,048 (8.2 kB)", "3,786 (15.1 kB)", "192 (768 B)"] {
            assert!(text.contains(number), "{width}: {text}");
        }
    }
    let narrow = format!("{:10}", summary());
    assert!(narrow.contains("3,786 (15.1 kB)") && narrow.contains("block1..  Dense"), "{narrow}");
}

#[test]
fn a_table_has_a_form_in_markdown() {
    let summary = Call::new()
        .tabulate(|scope| scope.run(&Sequential::new((Dense::new(4), Dense::new(2))), &input((1, 9))))
        .unwrap();
    let expected = "\
| path | module | inputs | outputs | params |
| --- | --- | --- | --- | --- |
| (root) | Sequential | f32[1, 9] | f32[1, 2] |  |
| layers_0 | Dense | f32[1, 9] | f32[1, 4] | 40 (160 B) |
| layers_1 | Dense | f32[1, 4] | f32[1, 2] | 10 (40 B) |
| total |  |  |  | 50 (200 B) |

Total: 50 (200 B)
";
    assert_eq!(summary.to_markdown(), expected);
    let bars = table(|scope| scope.call_named("a|b", &Dense::new(2), &input((1, 2))).map(|_| ()));
    assert!(bars.to_markdown().contains("| a\\|b | Dense |"), "{}", bars.to_markdown());
}

#[test]
fn a_table_has_a_form_in_json() {
    let summary =
        table(|scope| scope.call_named("a", &Dense::new(2).without_bias(), &input((1, 3))).map(|_| ()));
    let json: serde_json::Value = serde_json::from_str(&summary.to_json().unwrap()).unwrap();
    let six = serde_json::json!({ "params": { "elements": 6, "bytes": 24 } });
    let row = serde_json::json!({
        "path": "a",
        "module": "Dense",
        "inputs": "f32[1, 3]",
        "outputs": "f32[1, 2]",
        "calls": 1,
        "variables": [{ "path": "kernel", "collection": "params", "form": "f32[3, 2]" }],
        "counts": six,
    });
    assert_eq!(json, serde_json::json!({ "rows": [row], "totals": six }));
}

#[test]
fn what_is_sown_is_in_the_table_where_it_may_be() {
    assert_eq!(summary().totals().keys().collect::<Vec<_>>(), ["batch_stats", "params"]);
    let all = Call::new().mutable(true).tabulate(|scope| scope.run(&Model, &input((4, 28)))).unwrap();
    assert_eq!(all.totals().keys().collect::<Vec<_>>(), ["batch_stats", "intermediates", "params"]);
    assert_eq!(row(&all, "").counts["intermediates"], count(256, 1_024));
    assert_eq!(all.total().elements, summary().total().elements + 256);
}

#[test]
fn other_methods_have_rows_of_their_own() {
    let summary = table(|scope| {
        let block = scope.child_named("block", Block { features: 3 })?;
        block.call(&block.call_method("forward", &input((1, 3)))?).map(|_| ())
    });
    let expected = [
        "block Block.forward 1",
        "block.dense Dense 2",
        "block.norm BatchNorm 2",
        "block.dropout Dropout 2",
        "block Block 1",
    ];
    assert_eq!(outline(&summary), expected);
    assert_eq!(summary.total().elements, 9 + 12);
    let root =
        Call::new().tabulate(|scope| scope.run_named(&Block { features: 3 }, "forward", &input((1, 3))));
    assert_eq!(outline(&root.unwrap())[0], " Block.forward 1");
}

#[test]
fn a_module_called_again_has_one_row_with_its_first_shapes() {
    let summary = table(|scope| {
        let dense = scope.child_named("dense", Dense::new(3))?;
        for rows in [1, 2, 4] {
            dense.call(&input((rows, 3)))?;
        }
        Ok(())
    });
    assert_eq!(outline(&summary), ["dense Dense 3"]);
    let dense = row(&summary, "dense");
    assert_eq!((dense.inputs.unwrap(), dense.outputs.unwrap()), ("f32[1, 3]".into(), "f32[1, 3]".into()));
    assert_eq!(dense.counts["params"], count(12, 48));
    assert!(format!("{summary:100}").contains("dense  Dense x3  f32[1, 3]"), "{summary}");
}

#[test]
fn a_shared_module_has_one_row_and_is_counted_once() {
    let model = |shared: bool| {
        table(|scope| {
            let dense = scope.child_named("dense", Dense::new(3))?;
            for name in ["a", "b"] {
                scope.child_named(name, ())?.with(|(), scope| {
                    scope.call(&Body(|_, x| Ok(x.clone())), &input((1, 3)))?;
                    match shared {
                        true => dense.call(&input((1, 3))),
                        false => scope.call_named("dense", &Dense::new(3), &input((1, 3))),
                    }
                })?;
            }
            Ok(())
        })
    };
    let shared = model(true);
    assert_eq!(outline(&shared), ["a.Body_0 Body 1", "dense Dense 2", "b.Body_0 Body 1"]);
    assert_eq!(shared.total().elements, 12);
    assert_eq!((model(false).rows().len(), model(false).total().elements), (4, 24));
}

#[test]
fn a_wrapper_with_a_shared_scope_counts_for_both() {
    let wrapper = Body(|scope, x| scope.share_scope(&Dense::new(3), x));
    let summary = wrapper.tabulate(&input((1, 3))).unwrap();
    assert_eq!(outline(&summary), [" Body 1", " Dense 1"]);
    assert_eq!(summary.rows()[0].counts["params"].elements, 12);
    assert!(summary.rows()[1].counts.is_empty());
    assert_eq!(summary.total().elements, 12);
}

#[test]
fn inputs_and_outputs_of_any_kind_have_a_form() {
    #[derive(Clone, Debug, PartialEq)]
    struct Nothing;
    impl FunctionalModule<()> for Nothing {
        type Output = f64;
        fn call(&self, _: &Scope, (): &()) -> Result<f64> {
            Ok(1.)
        }
    }
    #[derive(Clone, Debug, PartialEq)]
    struct AddOne;
    impl FunctionalModule<f64> for AddOne {
        type Output = f64;
        fn call(&self, _: &Scope, x: &f64) -> Result<f64> {
            Ok(x + 1.)
        }
    }
    #[derive(Clone, Debug, PartialEq)]
    struct Named;
    type Inputs = (Tensor, BTreeMap<String, Option<Tensor>>, bool);
    impl FunctionalModule<Inputs> for Named {
        type Output = String;
        fn call(&self, _: &Scope, _: &Inputs) -> Result<String> {
            Ok("text".into())
        }
    }
    let summary = table(|scope| {
        scope.call_named("a", &Nothing, &())?;
        scope.call_named("b", &AddOne, &3.5)?;
        let map = [("mask".to_owned(), None), ("x".to_owned(), Some(input(2)))].into();
        scope.call_named("c", &Named, &(input((1, 3)), map, true)).map(|_| ())
    });
    let forms = |path: &str| {
        let row = row(&summary, path);
        (row.inputs.unwrap(), row.outputs.unwrap())
    };
    assert_eq!(forms("a"), ("()".into(), "1.0".into()));
    assert_eq!(forms("b"), ("3.5".into(), "4.5".into()));
    assert_eq!(forms("c"), ("(f32[1, 3], {mask: none, x: f32[2]}, true)".into(), "\"text\"".into()));
}

#[test]
fn how_a_parameter_is_spread_is_in_the_table() {
    let kernel = with_partitioning(Initializer::Zeros, ["", "data"]);
    let summary = Dense::new(4).kernel_init(kernel).tabulate(&input((1, 2))).unwrap();
    let forms: Vec<_> = summary.rows()[0].variables.iter().map(|variable| variable.form.as_str()).collect();
    assert_eq!(forms, ["f32[4]", "f32[2, 4] P(None, data)"]);
}

#[test]
fn a_model_of_any_size_has_a_table() {
    let size = 1 << 20;
    let summary = Dense::new(size).tabulate(&input((size, size))).unwrap();
    assert_eq!(summary.total(), count((1 << 40) + size, 4 * ((1 << 40) + size)));
    assert_eq!(row(&summary, "").outputs.unwrap(), "f32[1048576, 1048576]");
    assert!(format!("{summary:200}").contains("1,099,512,676,352 (4.4 TB)"), "{summary}");
}

#[test]
fn variables_of_a_closure_have_a_row_without_a_module() {
    let summary = table(|scope| {
        param(scope, "own")?;
        scope.call_named("a", &Dense::new(2), &input((1, 2))).map(|_| ())
    });
    assert_eq!(outline(&summary), ["  0", "a Dense 1"]);
    let own = row(&summary, "");
    assert_eq!((own.inputs, own.outputs, own.counts["params"]), (None, None, count(1, 4)));
    assert_eq!(own.variables[0].path, Path::from("own"));
    assert_eq!(summary.total(), count(7, 28));
    let empty = table(|_| Ok(()));
    assert!(empty.rows().is_empty() && empty.totals().is_empty());
    assert!(format!("{empty:100}").ends_with("Total: 0 (0 B)"), "{empty}");
}

#[test]
fn the_mode_of_a_table_is_the_calls() {
    let seen = |call: Call| {
        let mut mode = None;
        call.tabulate(|scope| {
            mode = scope.mode();
            assert!(scope.is_describing() && scope.is_initializing());
            scope.call(&BatchNorm::new(), &input((2, 3)))
        })
        .unwrap();
        mode
    };
    assert_eq!(seen(Call::new()), None);
    assert_eq!(seen(Call::new().mode(Mode::Train)), Some(Mode::Train));
    let [train, eval] = [Model.train(), Model.eval()].map(|model| model.tabulate(&input((4, 28))).unwrap());
    assert_eq!(outline(&train), outline(&eval));
    assert_eq!(train.totals(), eval.totals());
}

#[test]
fn an_error_comes_back() {
    let error = Call::new().tabulate(|scope| {
        scope.call_named("a", &Dense::new(2), &input((1, 2)))?;
        scope.call_named("a", &Dense::new(2), &input((1, 2)))
    });
    assert_error::<_, ScopeError>(
        error,
        "`a` is there twice: give one another name, or keep the first in a handle and use it again",
    );
    // Another call is not in its mode.
    let y = Dense::new(2).kernel_init(Initializer::Ones).init_with_output(key(0), &ones(&[1, 2])).unwrap().0;
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[2., 2.]]);
}
