//! Where names of captured values meet those of others, and sizes that nothing can count.

use bridge_graph::*;
use bridge_vars::*;
use candle_core::{DType, Device, Tensor};

fn s(v: f32) -> Tensor {
    Tensor::new(v, &Device::Cpu).unwrap()
}
fn paths(s: &State) -> Vec<String> {
    s.iter().map(|(p, _)| p.to_string()).collect()
}
fn ok(x: Tensor) -> Result<Tensor> {
    Ok(x)
}
#[derive(StatefulModule)]
struct M {
    v: Param,
}
fn m() -> M {
    M { v: Param::new(s(1.)) }
}
fn outputs() -> Capture {
    Capture::of::<Cache>().outputs::<Intermediate>()
}

#[test]
fn method_named_like_a_field_counts_from_0() {
    #[derive(StatefulModule)]
    struct N {
        encode: M,
    }
    let n = N { encode: m() };
    let (_, c) = outputs()
        .run(&n, |n| observe_method(n, "encode", &s(1.), || observe(&n.encode, &s(1.), || ok(s(1.)))))
        .unwrap();
    assert_eq!(paths(&c), ["encode.0", "encode.__call__.0"]);
}
#[test]
fn second_perturbation_of_another_shape_is_an_error() {
    let r = Capture::of::<Perturbation>().run(&m(), |m| {
        m.perturb("x", &s(5.))?;
        m.perturb("x", &s(5.).reshape((1, 1))?)
    });
    assert!(r.unwrap_err().to_string().starts_with("at `x`: "));
}
#[test]
fn perturbation_over_what_is_sown_is_an_error() {
    let r = Capture::of::<Intermediate>().and::<Perturbation>().run(&m(), |m| {
        m.sow_with::<Intermediate>("x", &s(1.), || Ok(s(0.)), |a, b| Ok((a + b)?))?;
        m.perturb("x", &s(5.))
    });
    assert!(r.is_err());
}
#[test]
fn reduction_of_two_types_is_an_error() {
    let r = Capture::of::<Intermediate>().and::<Cache>().run(&m(), |m| {
        m.sow_with::<Intermediate>("x", &s(1.), || Ok(s(0.)), |a, b| Ok((a + b)?))?;
        m.sow_with::<Cache>("x", &s(1.), || Ok(s(0.)), |a, b| Ok((a + b)?))
    });
    assert!(r.is_err(), "{}", r.unwrap().1);
}
#[test]
fn list_of_two_types_is_an_error() {
    let r = Capture::of::<Intermediate>().and::<Cache>().run(&m(), |m| {
        m.sow::<Intermediate>("s", &s(1.))?;
        m.sow::<Cache>("s", &s(1.))
    });
    assert!(r.is_err(), "{:?}", paths(&r.unwrap().1));
}
#[test]
fn given_perturbation_of_another_type_is_an_error() {
    let given = State::unflatten([("p".into(), Param::leaf(s(5.)))]).unwrap();
    assert!(Capture::of::<Intermediate>().init(&given).run(&m(), |m| m.perturb("p", &s(1.))).is_err());
}
#[test]
fn given_perturbation_that_is_no_tensor_names_its_path() {
    let given = State::unflatten([("0.p".into(), Perturbation::leaf(3))]).unwrap();
    let r = Capture::of::<Intermediate>().init(&given).run(&vec![m()], |m| m[0].perturb("p", &s(1.)));
    assert_eq!(r.unwrap_err().to_string(), "at `0.p`: expected a tensor, found a count");
}
#[test]
fn a_call_without_a_tensor_is_an_item_too() {
    let (_, c) = outputs()
        .run(&m(), |m| {
            observe(m, &(), || Result::<_>::Ok(None::<Tensor>))?;
            observe(m, &(), || Result::<_>::Ok(Some(s(2.))))
        })
        .unwrap();
    assert_eq!(paths(&c), ["__call__.1"]);
}
#[test]
fn an_output_that_gives_one_variable_twice_has_both() {
    let (_, c) =
        outputs().run(&m(), |m| observe(m, &(), || Result::<_>::Ok((m.v.clone(), m.v.clone())))).unwrap();
    assert_eq!(paths(&c), ["__call__.0.0", "__call__.0.1"]);
}
#[test]
fn negation_prints_what_it_negates() {
    let (a, b) = (|| ModuleFilter::at("a"), || ModuleFilter::at("b"));
    assert_ne!((!(a() & b())).to_string(), ((!a()) & b()).to_string());
}
#[test]
fn a_flag_that_no_module_has_is_an_error_beside_one_that_is_there() {
    #[derive(StatefulModule)]
    struct F {
        deterministic: Flag,
    }
    let f = F { deterministic: Flag::new(false) };
    assert!(set_flags_of(&f, ModuleFilter::all(), &["deterministic", "unknown"], true).is_err());
}
#[test]
fn more_elements_than_can_be_counted_do_not_panic() {
    let huge = Param::new(Described::new((1usize << 40, 1usize << 40), DType::F32, &Device::Cpu));
    assert!(std::panic::catch_unwind(|| state(&huge).unwrap().to_string()).is_ok());
    assert!(std::panic::catch_unwind(|| tabulate_structure(&huge).map(|t| t.to_string())).is_ok());
}
#[test]
fn depth_0_of_loose_variables_is_one_row() {
    let t = tabulate_structure(&(Param::new(s(1.)), m())).unwrap().depth(0);
    assert_eq!(t.rows().len(), 1, "{t}");
}
