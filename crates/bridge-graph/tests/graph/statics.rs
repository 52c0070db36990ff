//! Static values: part of the description, to the bit.

use bridge_graph::{Flag, StatefulModule, graphdef, merge, split};
use candle_core::DType;
use serde::{Deserialize, Serialize};

use crate::support::round_trip;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Named(String, Vec<Option<u8>>),
}

#[derive(Debug, StatefulModule)]
struct Statics {
    bits: (u8, u16, u32, u64, usize),
    dtype: DType,
    flag: Flag,
    floats: (f32, f64),
    number: (i8, i16, i32, i64, isize),
    #[module(static)]
    shape: Shape,
    text: String,
    truth: bool,
}

fn statics() -> Statics {
    Statics {
        bits: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, usize::MAX),
        dtype: DType::BF16,
        flag: Flag::new(true),
        floats: (f32::MIN_POSITIVE, f64::MAX),
        number: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, isize::MIN),
        shape: Shape::Named("é\n\"".into(), vec![None, Some(3)]),
        text: "\u{0}text".into(),
        truth: true,
    }
}

#[test]
fn all_types_at_their_limits() {
    let module = statics();
    let merged = round_trip(&module, &[]);
    assert_eq!(format!("{merged:?}"), format!("{module:?}"));
}

#[test]
fn floats_count_by_their_bits() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0123);
    for value in [f64::INFINITY, f64::NEG_INFINITY, -0., nan, f64::NAN, 5e-324, 0.1] {
        let merged = round_trip(&(value, value as f32), &[]);
        assert_eq!(merged.0.to_bits(), value.to_bits());
        assert_eq!(merged.1.to_bits(), (value as f32).to_bits());
    }
    assert_ne!(graphdef(&0f64).unwrap(), graphdef(&-0f64).unwrap());
    assert_ne!(graphdef(&nan).unwrap(), graphdef(&f64::NAN).unwrap());
    assert_eq!(graphdef(&f64::NAN).unwrap(), graphdef(&f64::NAN).unwrap());
}

#[test]
fn each_is_part_of_the_description() {
    let (base, _) = split(&statics()).unwrap();
    assert_eq!(base, split(&statics()).unwrap().0);
    let changes: [fn(&mut Statics); 9] = [
        |module| module.bits.3 -= 1,
        |module| module.dtype = DType::F16,
        |module| module.flag.set(false),
        |module| module.floats.0 = 0.,
        |module| module.number.2 = 0,
        |module| module.shape = Shape::Circle { radius: 1. },
        |module| module.shape = Shape::Point,
        |module| module.text.clear(),
        |module| module.truth = false,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut module = statics();
        change(&mut module);
        assert_ne!(split(&module).unwrap().0, base, "change {number}");
    }
}

#[test]
fn a_number_of_another_type_is_refused() {
    #[derive(StatefulModule)]
    #[module(rename = "Size")]
    struct Wide {
        size: u64,
    }
    #[derive(StatefulModule)]
    #[module(rename = "Size")]
    struct Narrow {
        size: u8,
    }
    let narrow = |size| {
        let (graphdef, state) = split(&Wide { size }).unwrap();
        let graphdef = bridge_graph::GraphDef::<Narrow>::from_program(graphdef.program().clone());
        merge(&graphdef, &state).map(|module| module.size)
    };
    assert_eq!(narrow(255).unwrap(), 255);
    let error = narrow(256).unwrap_err().to_string();
    assert_eq!(error, "at `size`: the `GraphDef` has the static value UInt(256), the type expects u8");
}

#[test]
fn skipped_fields_leave_no_trace() {
    #[derive(StatefulModule)]
    struct Skips {
        size: u8,
        #[module(skip)]
        calls: Vec<std::time::Duration>,
    }
    let skips = |calls| Skips { size: 1, calls };
    let merged = round_trip(&skips(vec![std::time::Duration::MAX]), &[]);
    assert!(merged.calls.is_empty());
    assert_eq!(graphdef(&skips(vec![])).unwrap(), graphdef(&merged).unwrap());
}
