use bridge_functional::*;
use bridge_ops::stand_in;
use bridge_random::key;
use bridge_vars::*;
use candle_core::{DType, Tensor};
use crate::support::{Body, device, ones, scalar, param, Counter};

fn input(shape: impl Into<candle_core::Shape>) -> Tensor { stand_in(shape, DType::F32, &device()).unwrap() }
fn show(name: &str, v: &Variables) {
    for (p, l) in v.iter() { println!("{name}: {p} {:?} {:?}", l.value, l.tensor().ok().map(|t| t.to_string())); }
}

#[test]
fn p_set() {
    let f = |scope: &Scope| {
        let v = scope.variable("state", "v", || scope.full(5., 2, DType::F32, &device()))?;
        v.set((v.get()? + 1.)?)?;
        scope.sow("other", "h", ones(&[2]))?;
        Ok(())
    };
    let (_, d) = Call::new().keys(key(0)).describe(f).unwrap();
    show("described", &d);
    show("materialized", &d.materialize().unwrap());
    let (_, d) = Call::new().keys(key(0)).init(f).unwrap();
    show("init", &d);
    let (_, d) = Call::new().keys(key(0)).capture_intermediates().describe(|s| s.call(&Dense::new(2), &input((1,2)))).unwrap();
    show("captured", &d);
    show("captured mat", &d.materialize().unwrap());
    let (_, d) = Call::new().describe(|s| { s.variable("rng", "k", || s.make_rng("dropout"))?; Ok(()) }).unwrap();
    show("keyless", &d);
}
#[test]
fn p_perturb_huge() {
    let (_, d) = Call::new().describe(|s| s.perturb("h", &input((1<<20, 1<<20)))).unwrap();
    println!("ok {:?}", paths(&d));
}
fn paths(d: &Variables) -> Vec<String> { d.iter().map(|(p, _)| p.to_string()).collect() }
#[test]
fn p_norm_huge() {
    let d = BatchNorm::new().train().describe(key(0), &input((1<<20, 1<<20))).unwrap();
    println!("ok {:?}", paths(&d));
}
#[test]
fn p_dropout_one_huge() {
    Dropout::new(1.).train().describe(key(0), &input((1<<20, 1<<20))).unwrap();
}
#[test]
fn p_dropout_half_huge() {
    Dropout::new(0.5).train().describe(key(0), &input((1<<20, 1<<20))).unwrap();
}
#[test]
fn p_half_huge() {
    let x = stand_in((1<<20, 1<<20), DType::BF16, &device()).unwrap();
    Activation::Gelu.describe(key(0), &x).unwrap();
}
#[test]
fn p_half_norm_huge() {
    let x = stand_in((1<<20, 1<<20), DType::BF16, &device()).unwrap();
    BatchNorm::new().param_dtype(DType::BF16).eval().describe(key(0), &x).unwrap();
}
#[test]
fn p_softmax_half_huge() {
    let x = stand_in((1<<20, 1<<20), DType::BF16, &device()).unwrap();
    Call::new().describe(|_| Ok(bridge_ops::softmax(&x)?)).unwrap();
}
#[test]
fn p_linear_half_huge() {
    let x = stand_in((1<<20, 1<<20), DType::BF16, &device()).unwrap();
    Dense::new(1 << 20).param_dtype(DType::BF16).describe(key(0), &x).unwrap();
}
#[test]
fn p_overflow_table() {
    let r = std::panic::catch_unwind(|| println!("{}", Dense::new(1 << 40).tabulate(&input((1, 1usize<<40))).unwrap()));
    println!("overflow panics: {}", r.is_err());
    let r = std::panic::catch_unwind(|| println!("{}", Dense::new(1 << 31).tabulate(&input((1, 1usize<<31))).unwrap()));
    println!("overflow 2^62 elements panics: {}", r.is_err());
    let r = std::panic::catch_unwind(|| println!("{}", Dense::new(1 << 31).describe(key(0), &input((1, 1usize<<31))).unwrap()));
    println!("display 2^62 elements panics: {}", r.is_err());
}
#[test]
fn p_misc() {
    let e = Call::new().mutable(true).apply(&Variables::default(), |s| { s.sow("losses", "x", scalar(1.))?; s.sow_with("losses", "x", &scalar(1.), || Ok(scalar(0.)), |a,b| Ok((a+b)?)) });
    println!("sow then sow_with: {}", e.unwrap_err());
    let e = Call::new().intercept(|c| { if c.path().len() == 2 { Err(scalar(1.).add(&ones(&[2])).unwrap_err().into()) } else { c.run() } }).init(|s| s.call_named("a", &Body(|s, x| s.call_named("b", &Body(|_, x| Ok(x.clone())), x)), &scalar(1.)));
    println!("interceptor error: {}", e.unwrap_err());
    let empty = (PathKey::from("params"), Tree::Node(Node::from_sorted([])));
    let v: Variables = Tree::<Leaf>::Node(Node::from_sorted([empty])).into();
    println!("empty: {}", Call::new().apply(&v, |s| param(s, "x")).unwrap_err());
    let t = Sequential::dynamic().with(Dense::new(2)).with(Activation::Relu).tabulate(&input((1,2))).unwrap();
    println!("{t}");
    let t = Call::new().tabulate(|s| s.call(&BoxedModule::new(Dense::new(2)), &input((1,2)))).unwrap();
    println!("{t}");
    let b = Counter.bind(&Counter.init(key(0), &ones(&[1])).unwrap(), Keys::none(), "memory");
    let c = b.clone();
    b.call(&ones(&[1])).unwrap();
    show("clone of bound", &c.variables());
    let failing = Body(|s, x| { Counter.call(s, x)?; Err(ScopeError::ReservedName { path: "x".into() }.into()) });
    let b = failing.bind(&Counter.init(key(0), &ones(&[1])).unwrap(), Keys::none(), "memory");
    b.call(&ones(&[1])).unwrap_err();
    show("failed bound", &b.variables());
    let r = Call::new().keys(key(0)).intercept(|c| { c.run()?; c.run() }).init(|s| s.run(&Dense::new(2), &ones(&[1, 2])));
    println!("root twice: {:?}", r.map(|_| ()));
    let r = Call::new().keys(key(0)).intercept(|c| { c.run()?; c.run() }).init(|s| s.call(&Body(|s, x| s.call(&Dense::new(2), x)), &ones(&[1, 2])));
    println!("child twice: {:?}", r.map(|_| ()));
    println!("{}", Call::new().capture_intermediates().tabulate(|s| s.call(&Dense::new(2), &input((1,2)))).unwrap());
    println!("{}", Call::new().mutable(true).tabulate(|s| { s.sow("intermediates", "h", input(3))?; s.sow("intermediates", "k", 3)?; s.call(&Dense::new(2), &input((1,2))) }).unwrap());
    let e = Dense::new(2).init(key(0), &scalar(1.)).unwrap_err();
    println!("scalar dense: {e}");
    let child_recursive = Call::new().keys(key(0)).init(|s| { let c = s.child_named("c", Dense::new(2))?; c.with(|_, s| { param(s, "w")?; c.call(&ones(&[1,2]))?; param(s, "w") }) });
    println!("recursive: {:?}", child_recursive.map(|(_, v)| paths(&v)));
    println!("{}", Call::new().tabulate(|s| s.call(&Dense::new(2).kernel_init(with_partitioning(bridge_random::Initializer::Zeros, ["", "model"])), &input((1,2)))).unwrap().to_json().unwrap());
}
