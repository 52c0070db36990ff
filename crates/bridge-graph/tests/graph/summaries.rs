//! Tables of a model: what they count, and that they leave it alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bridge_graph::{
    Capture, Count, Field, Flag, RngStream, Rngs, Shared, Sow, StatefulModule, Summary, describe, dynamic,
    observe, observe_method, split, state, tabulate, tabulate_structure,
};
use bridge_ops::stand_in;
use bridge_random::{Initializer, key};
use bridge_vars::{BatchStat, Intermediate, Param, Result, RngState, State, VarsError, with_partitioning};
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;

use crate::support::{assert_error, param, paths, scalar, zeros};

/// `x kernel + bias`.
#[derive(StatefulModule)]
struct Linear {
    kernel: Param,
    bias: Option<Param>,
}

impl Linear {
    fn new(inputs: usize, outputs: usize, rngs: &Rngs) -> Result<Self> {
        let kernel = rngs.param(&Initializer::lecun_normal(), (inputs, outputs))?;
        Ok(Self { kernel, bias: Some(rngs.param(&Initializer::Zeros, outputs)?) })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || {
            let bias = self.bias.as_ref().map(|bias| bias.value()).transpose()?;
            Ok(bridge_ops::linear(x, &self.kernel.value()?, bias.as_ref())?)
        })
    }
}

/// Counts its calls, remembers a mean, and draws.
#[derive(StatefulModule)]
struct Noise {
    deterministic: Flag,
    mean: BatchStat,
    stream: RngStream,
}

impl Noise {
    fn new(rngs: &Rngs) -> Result<Self> {
        let mean = BatchStat::new(rngs.full(0., 3, DType::F32)?);
        Ok(Self { deterministic: Flag::new(false), mean, stream: rngs.stream("noise")?.fork()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || {
            self.stream.draw()?;
            self.mean.set((self.mean.value()? + 1.)?)?;
            self.deterministic.set(true);
            Ok(x.clone())
        })
    }
}

#[derive(StatefulModule)]
struct Block {
    linear: Linear,
    noise: Noise,
}

impl Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || self.noise.forward(&self.linear.forward(x)?))
    }
}

#[derive(StatefulModule)]
struct Model {
    blocks: Vec<Block>,
    head: Linear,
    scale: Param,
}

impl Model {
    fn new(rngs: &Rngs) -> Result<Self> {
        let block = |inputs| -> Result<Block> {
            Ok(Block { linear: Linear::new(inputs, 3, rngs)?, noise: Noise::new(rngs)? })
        };
        let blocks = vec![block(5)?, block(3)?];
        Ok(Self { blocks, head: Linear::new(3, 2, rngs)?, scale: rngs.param(&Initializer::Ones, ())? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || {
            let x = self.blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x))?;
            Ok(self.head.forward(&x)?.broadcast_mul(&self.scale.value()?)?)
        })
    }
}

fn model() -> Model {
    Model::new(&Rngs::new(0)).unwrap()
}

fn table() -> Summary {
    tabulate(&model(), |model| model.forward(&zeros(&[1, 5]))).unwrap()
}

/// What a state holds, without random streams.
fn sum(state: &State, collection: &str) -> Count {
    let mut sum = Count::default();
    for (_, leaf) in state.iter().filter(|(_, leaf)| leaf.kind.collection() == collection) {
        let form = leaf.value.tensor_form().unwrap();
        let elements: usize = form.dims().iter().product();
        sum.elements += elements;
        sum.bytes += elements * form.dtype().size_in_bytes();
    }
    sum
}

/// The rows' paths, and the totals, which are the sums of the state and of the rows.
#[track_caller]
fn check<M: Field, T>(module: &M, call: impl FnOnce(&M) -> Result<T>, expected: &[&str]) -> Summary {
    let (graphdef, before) = split(module).unwrap();
    let summary = tabulate(module, call).unwrap();
    assert_eq!(summary.rows().iter().map(|row| row.path.to_string()).collect::<Vec<_>>(), expected);
    let structure = tabulate_structure(module).unwrap();
    for (collection, total) in summary.totals() {
        assert_eq!(*total, sum(&before, collection), "{collection}");
        let rows = summary.rows().iter().filter_map(|row| row.counts.get(collection));
        assert_eq!(rows.clone().map(|count| count.elements).sum::<usize>(), total.elements);
        assert_eq!(rows.map(|count| count.bytes).sum::<usize>(), total.bytes);
    }
    assert_eq!(structure.totals(), summary.totals());
    let counted: usize = summary.rows().iter().map(|row| row.variables.len()).sum();
    let random = before.filter(bridge_vars::Filter::of::<RngState>()).len();
    assert_eq!(counted, before.len() - random);
    // Nothing of the module has changed.
    let (graphdef_after, after) = split(module).unwrap();
    assert_eq!(graphdef_after, graphdef);
    assert!(after.identical(&before).unwrap());
    summary
}

const ROWS: [&str; 8] = [
    "",
    "blocks.0",
    "blocks.0.linear",
    "blocks.0.noise",
    "blocks.1",
    "blocks.1.linear",
    "blocks.1.noise",
    "head",
];

#[test]
fn a_table_has_the_totals_of_the_state_and_leaves_the_module_as_it_is() {
    let model = model();
    let summary = check(&model, |model| model.forward(&zeros(&[1, 5])), &ROWS);
    assert_eq!(summary.total(), Count { elements: 45, bytes: 180 });
    assert_eq!(summary.totals().keys().collect::<Vec<_>>(), ["batch_stats", "params"]);
    // The streams were not drawn from, and the mean is what it was.
    assert_eq!(
        model.blocks[0].noise.stream.draw().unwrap(),
        model.blocks[0].noise.stream.key().key().unwrap().fold_in(0)
    );
}

#[test]
fn rows_tell_what_each_module_takes_gives_and_has() {
    let summary = table();
    let row = |path: &str| {
        let row = summary.row(path).unwrap();
        let variables: Vec<String> = row
            .variables
            .iter()
            .map(|variable| format!("{} {} {}", variable.path, variable.collection, variable.form))
            .collect();
        (
            row.module.as_str(),
            row.inputs.as_deref().unwrap(),
            row.outputs.as_deref().unwrap(),
            row.calls,
            variables,
        )
    };
    let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(row(""), ("Model", "f32[1, 5]", "f32[1, 2]", 1, own(&["scale params f32[]"])));
    assert_eq!(row("blocks.0"), ("Block", "f32[1, 5]", "f32[1, 3]", 1, own(&[])));
    let linear = own(&["bias params f32[3]", "kernel params f32[5, 3]"]);
    assert_eq!(row("blocks.0.linear"), ("Linear", "f32[1, 5]", "f32[1, 3]", 1, linear));
    assert_eq!(
        row("blocks.0.noise"),
        ("Noise", "f32[1, 3]", "f32[1, 3]", 1, own(&["mean batch_stats f32[3]"]))
    );
    assert!(summary.row("blocks").is_none());
}

#[test]
fn prints_as_a_table() {
    let expected = "\
path             module  inputs     outputs    batch_stats  params
----------------------------------------------------------------------
(root)           Model   f32[1, 5]  f32[1, 2]               1 (4 B)
blocks.0         Block   f32[1, 5]  f32[1, 3]
blocks.0.linear  Linear  f32[1, 5]  f32[1, 3]               18 (72 B)
blocks.0.noise   Noise   f32[1, 3]  f32[1, 3]  3 (12 B)
blocks.1         Block   f32[1, 3]  f32[1, 3]
blocks.1.linear  Linear  f32[1, 3]  f32[1, 3]               12 (48 B)
blocks.1.noise   Noise   f32[1, 3]  f32[1, 3]  3 (12 B)
head             Linear  f32[1, 3]  f32[1, 2]               8 (32 B)
----------------------------------------------------------------------
total                                          6 (24 B)     39 (156 B)
Total: 45 (180 B)";
    assert_eq!(table().to_string(), expected);
}

#[test]
fn no_line_is_wider_than_is_asked_for() {
    let table = table();
    let widest = |text: String| text.lines().map(|line| line.chars().count()).max().unwrap();
    assert_eq!(widest(format!("{table:200}")), widest(table.to_string()));
    for width in [100, 70, 66, 61] {
        assert!(widest(format!("{table:width$}")) <= width, "{table:width$}");
    }
    // Words are cut no shorter than this, and numbers stay whole.
    assert_eq!(widest(format!("{table:1}")), [8, 6, 8, 8, 11, 10].iter().sum::<usize>() + 5 * 2);
    for text in ["blocks..", "batch_stats", "39 (156 B)"] {
        assert!(format!("{table:1}").contains(text), "{table:1}");
    }
}

#[test]
fn a_cell_that_is_cut_shows_it() {
    let model = vec![IndexMap::from([(
        "a_name_that_is_quite_long".to_owned(),
        Linear::new(2, 2, &Rngs::new(0)).unwrap(),
    )])];
    let text = format!("{:60}", tabulate_structure(&model).unwrap());
    assert!(
        text.lines().any(|line| line.starts_with("0.a_name_that_is_") && line.contains("..  Linear")),
        "{text}"
    );
}

#[test]
fn deeper_modules_are_counted_by_those_above() {
    let table = table();
    let at = |depth: usize| -> Vec<(String, usize)> {
        let cut = table.depth(depth);
        assert_eq!(cut.totals(), table.totals());
        let elements = |row: &bridge_graph::SummaryRow| row.counts.values().map(|count| count.elements).sum();
        cut.rows().iter().map(|row| (row.path.to_string(), elements(row))).collect()
    };
    let rows = |rows: &[(&str, usize)]| {
        rows.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect::<Vec<_>>()
    };
    assert_eq!(at(0), rows(&[("", 45)]));
    // The step of a list is a step.
    assert_eq!(at(1), rows(&[("", 37), ("head", 8)]));
    assert_eq!(at(2), rows(&[("", 1), ("blocks.0", 21), ("blocks.1", 15), ("head", 8)]));
    assert_eq!(at(3).len(), 8);
    assert_eq!(at(3), at(9));
    let block = table.depth(2);
    let block = block.row("blocks.0").unwrap();
    assert_eq!((block.inputs.as_deref(), block.calls), (Some("f32[1, 5]"), 1));
    let variables: Vec<String> = block.variables.iter().map(|variable| variable.path.to_string()).collect();
    assert_eq!(variables, ["linear.bias", "linear.kernel", "noise.mean"]);
}

#[test]
fn is_written_as_markdown() {
    let model = Linear::new(2, 3, &Rngs::new(0)).unwrap();
    let summary = tabulate(&model, |model| model.forward(&zeros(&[4, 2]))).unwrap();
    let expected = "\
| path | module | inputs | outputs | params |
| --- | --- | --- | --- | --- |
| (root) | Linear | f32[4, 2] | f32[4, 3] | 9 (36 B) |
| total |  |  |  | 9 (36 B) |

Total: 9 (36 B)
";
    assert_eq!(summary.to_markdown(), expected);
}

#[test]
fn what_would_end_a_cell_of_markdown_does_not() {
    #[derive(StatefulModule)]
    struct Says(Param);
    let says = Says(param(1.));
    let summary =
        tabulate(&says, |says| observe(says, &"a|b".to_owned(), || Ok::<_, bridge_vars::Error>(scalar(1.))))
            .unwrap();
    let text = summary.to_markdown();
    assert!(text.contains("| (root) | Says | \"a\\|b\" | f32[] |"), "{text}");
}

#[test]
fn is_written_as_json() {
    let json: serde_json::Value = serde_json::from_str(&table().to_json().unwrap()).unwrap();
    assert_eq!(
        json["totals"],
        serde_json::json!({
            "batch_stats": { "elements": 6, "bytes": 24 },
            "params": { "elements": 39, "bytes": 156 },
        })
    );
    assert_eq!(json["rows"].as_array().unwrap().len(), 8);
    assert_eq!(
        json["rows"][2],
        serde_json::json!({
            "path": "blocks.0.linear",
            "module": "Linear",
            "inputs": "f32[1, 5]",
            "outputs": "f32[1, 3]",
            "calls": 1,
            "variables": [
                { "path": "bias", "collection": "params", "form": "f32[3]" },
                { "path": "kernel", "collection": "params", "form": "f32[5, 3]" },
            ],
            "counts": { "params": { "elements": 18, "bytes": 72 } },
        })
    );
}

#[test]
fn what_is_shared_has_one_row_and_counts_once() {
    #[derive(StatefulModule)]
    struct Tied {
        first: Shared<Linear>,
        second: Shared<Linear>,
        tied: Param,
    }
    let first = Shared::new(Linear::new(3, 3, &Rngs::new(0)).unwrap());
    let model = Tied { second: first.clone(), tied: first.kernel.clone(), first };
    let call = |model: &Tied| model.second.forward(&model.first.forward(&zeros(&[2, 3]))?);
    let summary = check(&model, call, &["", "first"]);
    assert_eq!((summary.total().elements, summary.row("first").unwrap().calls), (12, 2));
    assert!(summary.row("").unwrap().variables.is_empty());
    assert!(summary.to_string().contains("first   Linear x2  f32[2, 3]"), "{summary}");
    let two = (Linear::new(3, 3, &Rngs::new(0)).unwrap(), Linear::new(3, 3, &Rngs::new(0)).unwrap());
    let call = |two: &(Linear, Linear)| two.1.forward(&two.0.forward(&zeros(&[2, 3]))?);
    assert_eq!(check(&two, call, &["0", "1"]).total().elements, 24);
}

#[test]
fn of_several_calls_the_first_is_shown() {
    let model = Linear::new(2, 2, &Rngs::new(0)).unwrap();
    let summary = tabulate(&model, |model| {
        model.forward(&zeros(&[1, 2]))?;
        model.forward(&zeros(&[7, 2]))?;
        model.forward(&zeros(&[3, 5, 2]))
    })
    .unwrap();
    let row = summary.row("").unwrap();
    assert_eq!(
        (row.calls, row.inputs.as_deref(), row.outputs.as_deref()),
        (3, Some("f32[1, 2]"), Some("f32[1, 2]"))
    );
}

#[test]
fn a_module_that_is_not_called_has_a_row_without_shapes() {
    let summary = tabulate(&model(), |model| model.head.forward(&zeros(&[1, 3]))).unwrap();
    let row = summary.row("blocks.0").unwrap();
    assert_eq!((row.calls, &row.inputs, &row.outputs), (0, &None, &None));
    assert_eq!(summary.total().elements, 45);
    let structure = tabulate_structure(&model()).unwrap();
    assert_eq!(structure.rows().len(), 8);
    assert!(structure.rows().iter().all(|row| row.calls == 0 && row.inputs.is_none()));
}

#[test]
fn several_inputs_and_outputs_are_all_shown() {
    let layer = Linear::new(2, 2, &Rngs::new(0)).unwrap();
    let summary = tabulate(&layer, |layer| {
        let (x, empty) = (zeros(&[1, 4]), IndexMap::<String, Tensor>::new());
        let map = IndexMap::from([("mask".to_owned(), zeros(&[8]))]);
        observe(layer, &(x.clone(), map, empty, None::<Tensor>, true, 3.5f64), || {
            Ok::<_, bridge_vars::Error>((x.clone(), vec![x.clone(), x]))
        })
    })
    .unwrap();
    let row = summary.row("").unwrap();
    assert_eq!(row.inputs.as_deref(), Some("(f32[1, 4], {mask: f32[8]}, {}, none, true, 3.5)"));
    assert_eq!(row.outputs.as_deref(), Some("(f32[1, 4], [f32[1, 4], f32[1, 4]])"));
}

dynamic!(trait BoxableStep for Step);
trait Step: BoxableStep {
    fn step(&self, x: &Tensor) -> Result<Tensor>;
}
#[derive(StatefulModule)]
struct Square;
impl Step for Square {
    fn step(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || Ok(x.sqr()?))
    }
}
impl Step for Linear {
    fn step(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
}

#[test]
fn boxed_modules_and_those_without_variables_have_rows() {
    let steps: Vec<Box<dyn Step>> = vec![
        Box::new(Linear::new(2, 2, &Rngs::new(0)).unwrap()),
        Box::new(Square),
        Box::new(Linear::new(2, 1, &Rngs::new(0)).unwrap()),
    ];
    let call = |steps: &Vec<Box<dyn Step>>| steps.iter().try_fold(zeros(&[3, 2]), |x, step| step.step(&x));
    let summary = check(&steps, call, &["0", "1", "2"]);
    let modules: Vec<_> =
        summary.rows().iter().map(|row| (row.module.as_str(), row.outputs.as_deref().unwrap())).collect();
    assert_eq!(modules, [("Linear", "f32[3, 2]"), ("Square", "f32[3, 2]"), ("Linear", "f32[3, 1]")]);
}

#[test]
fn variables_in_no_module_have_a_row_of_their_own() {
    let loose = (param(1.), Linear::new(2, 2, &Rngs::new(0)).unwrap(), BatchStat::new(zeros(&[5])));
    let summary = check(&loose, |_| Ok(()), &["", "1"]);
    assert_eq!(summary.row("").unwrap().counts["batch_stats"].elements, 5);
    let summary = check(&vec![param(1.), param(2.)], |_| Ok(()), &[""]);
    assert_eq!(summary.total().elements, 2);
    let nothing = check(&(), |()| Ok(()), &[]);
    assert_eq!(nothing.total(), Count::default());
    let expected = "\
| path | module | inputs | outputs |
| --- | --- | --- | --- |
| total |  |  |  |

Total: 0 (0 B)
";
    assert_eq!(nothing.to_markdown(), expected);
}

#[test]
fn values_that_are_no_tensors_are_counted_as_what_they_are() {
    let values =
        (Param::new(7u32), Intermediate::new(key(1)), Param::new(zeros(&[2]).to_dtype(DType::BF16).unwrap()));
    let summary = tabulate_structure(&values).unwrap();
    assert_eq!(summary.totals()["params"], Count { elements: 3, bytes: 8 });
    assert_eq!(summary.totals()["intermediates"], Count::default());
    let forms: Vec<_> = summary.rows()[0].variables.iter().map(|variable| variable.form.as_str()).collect();
    assert_eq!(forms, ["a count", "a random key", "bf16[2]"]);
}

#[test]
fn a_described_model_larger_than_any_memory_has_a_table() {
    const SIZE: usize = 1 << 20;
    let construct = |rngs: &Rngs| Ok(vec![Linear::new(SIZE, SIZE, rngs)?, Linear::new(SIZE, 4, rngs)?]);
    let model = describe(&Rngs::new(0), construct).unwrap();
    let x = stand_in((2, SIZE), DType::F32, &Device::Cpu).unwrap();
    let summary = check(&model, |model| model[1].forward(&model[0].forward(&x)?), &["0", "1"]);
    assert_eq!(summary.row("1").unwrap().outputs.as_deref(), Some("f32[2, 4]"));
    assert_eq!(
        summary.row("0").unwrap().counts["params"],
        Count { elements: (1 << 40) + (1 << 20), bytes: (1 << 42) + (1 << 22) }
    );
    assert!(bridge_graph::is_described(&model).unwrap());
    assert!(summary.to_string().contains("1,099,512,676,352"), "{summary}");
}

#[test]
fn a_described_model_has_the_table_of_the_one_that_is_made() {
    let described = describe(&Rngs::new(0), Model::new).unwrap();
    let call = |model: &Model| model.forward(&zeros(&[1, 5]));
    assert_eq!(check(&described, call, &ROWS).to_json().unwrap(), table().to_json().unwrap());
    assert_eq!(
        tabulate_structure(&described).unwrap().to_string(),
        tabulate_structure(&model()).unwrap().to_string()
    );
}

#[test]
fn a_call_that_does_not_fit_is_its_own_error() {
    let failed = tabulate(&model(), |model| model.forward(&zeros(&[1, 4]))).unwrap_err().to_string();
    assert_eq!(
        failed,
        "linear: `x` must have shape [..., 5], because `kernel` has shape [5, 3], found [1, 4]"
    );
}

#[test]
fn a_call_that_fails_or_panics_leaves_nothing_behind() {
    let model = model();
    let before = state(&model).unwrap();
    let failed: Result<Summary> = tabulate(&model, |model| -> Result<()> {
        model.forward(&zeros(&[1, 5]))?;
        Err(VarsError::ValueKind { expected: "a", found: "b" }.into())
    });
    assert_error::<_, VarsError>(failed, "expected a, found b");
    let panicked =
        catch_unwind(AssertUnwindSafe(|| tabulate(&model, |_| -> Result<()> { panic!("on purpose") })));
    assert!(panicked.is_err() && !bridge_ops::is_shapes_only());
    assert!(state(&model).unwrap().identical(&before).unwrap());
    // Numbers are computed again.
    let y = Linear { kernel: Param::new(scalar(2.).reshape((1, 1)).unwrap()), bias: None }
        .forward(&scalar(3.).reshape((1, 1)).unwrap());
    assert_eq!(y.unwrap().to_vec2::<f32>().unwrap(), [[6.]]);
}

#[test]
fn a_table_inside_of_a_capture_sees_its_own_and_the_capture_its_own() {
    let linear = Linear::new(2, 3, &Rngs::new(0)).unwrap();
    let (summary, captured) = Capture::of::<Intermediate>()
        .outputs::<Intermediate>()
        .run(&linear, |linear| {
            linear.forward(&zeros(&[1, 2]))?;
            tabulate(linear, |copy| copy.forward(&zeros(&[5, 2])))
        })
        .unwrap();
    assert_eq!(paths(&captured), ["__call__.0"]);
    assert_eq!(summary.row("").unwrap().inputs.as_deref(), Some("f32[5, 2]"));
    // And the other way round.
    let mut captured = State::default();
    let summary = tabulate(&linear, |copy| {
        let (y, found) = Capture::of::<Intermediate>().outputs::<Intermediate>().run(copy, |copy| {
            copy.sow::<Intermediate>("x", &scalar(1.))?;
            copy.forward(&zeros(&[1, 2]))
        })?;
        captured = found;
        Ok(y)
    })
    .unwrap();
    assert_eq!(
        (summary.row("").unwrap().calls, paths(&captured)),
        (1, vec!["__call__.0".into(), "x.0".into()])
    );
}

#[test]
fn each_body_runs_once() {
    let mut runs = 0;
    tabulate(&model(), |model| {
        runs += 1;
        model.forward(&zeros(&[1, 5]))
    })
    .unwrap();
    assert_eq!(runs, 1);
}

#[test]
fn random_streams_have_neither_rows_nor_counts() {
    let model = (
        Rngs::new(0).with_stream("dropout", 1),
        RngStream::new("noise", key(0)),
        Linear::new(1, 1, &Rngs::new(0)).unwrap(),
    );
    let summary = check(&model, |_| Ok(()), &["2"]);
    assert_eq!(summary.totals().keys().collect::<Vec<_>>(), ["params"]);
}

#[test]
fn bare_tensors_are_counted_with_and_without_a_call() {
    let model = (Linear::new(2, 2, &Rngs::new(0)).unwrap(), zeros(&[100]));
    let with_call = tabulate(&model, |_| Ok(())).unwrap();
    let without = tabulate_structure(&model).unwrap();
    assert_eq!(with_call.total(), without.total());
}

/// Has methods with names.
#[derive(StatefulModule)]
struct Methods {
    linear: Linear,
}

#[test]
fn a_method_with_a_name_has_a_row_after_its_modules() {
    let model = Methods { linear: Linear::new(2, 2, &Rngs::new(0)).unwrap() };
    let summary = tabulate(&model, |model| {
        let call = |x: &Tensor| observe_method(model, "encode", x, || model.linear.forward(x));
        call(&call(&zeros(&[1, 2]))?)
    })
    .unwrap();
    let rows: Vec<_> =
        summary.rows().iter().map(|row| (row.path.to_string(), row.module.as_str(), row.calls)).collect();
    let expected = [("", "Methods", 0), ("", "Methods.encode", 2), ("linear", "Linear", 2)];
    assert_eq!(rows, expected.map(|(path, module, calls)| (path.to_owned(), module, calls)));
    assert_eq!(summary.total().elements, 6);
}

#[test]
fn shows_how_variables_are_spread() {
    let init = with_partitioning(Initializer::Zeros, ["", "data"]);
    let linear = Linear { kernel: Rngs::new(0).param(&init, (2, 3)).unwrap(), bias: None };
    let summary = tabulate_structure(&linear).unwrap();
    assert_eq!(summary.rows()[0].variables[0].form, "f32[2, 3] P(None, data)");
    assert_eq!(summary.total().elements, 6);
}
