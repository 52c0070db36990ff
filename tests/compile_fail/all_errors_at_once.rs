use bridge_graph::{StatefulModule, merge, split};
use bridge_vars::Param;

#[derive(StatefulModule)]
#[module(renam = "Dense")] //~ ERROR renam: is `rename` meant?
//~ FIXED #[module(rename = "Dense")]
struct Net<T> {
    #[module(statc, skp)] //~ ERROR statc: is `static` meant? //~ ERROR skp: is `skip` meant?
    //~ FIXED #[module(static)]
    size: usize,
    #[module(rename = "inner")] //~ ERROR "inner": the field `inner` has the name
    //~ FIXED
    kernel: Param,
    inner: T,
}

// None of these is an error of its own.
#[derive(StatefulModule)]
struct Model {
    nets: Vec<Net<Param>>,
}

fn copy(model: &Model) -> bridge_vars::Result<Model> {
    let (graphdef, state) = split(model)?;
    merge(&graphdef, &state)
}

fn main() {
    let _ = copy;
}
