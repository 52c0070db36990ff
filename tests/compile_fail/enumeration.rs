use bridge_graph::StatefulModule;
use bridge_vars::Param;

#[derive(StatefulModule)]
enum Head {
    #[module(rename = "Own")] //~ ERROR "Own": the variant `Own` has the name `Own` too: choose another
    //~ FIXED #[module(rename = "Tied")]
    Shared,
    #[module(skip)] //~ ERROR skip: `skip` belongs on a field, not on a variant
    //~ FIXED
    Own {
        kernel: Param,
        #[module(rename = "kernel")] //~ ERROR "kernel": the field `kernel` has the name `kernel` too
        //~ FIXED
        bias: Option<Param>,
    },
    #[module(bound = "")] //~ ERROR bound: `bound` belongs on the type, not on a variant
    //~ FIXED
    Two(Param, #[module(statc)] usize), //~ ERROR statc: is `static` meant?
    //~ FIXED Two(Param, #[module(static)] usize),
}

#[derive(StatefulModule)]
enum Layer {
    Plain(std::path::PathBuf), //~ ERROR std::path::PathBuf: `PathBuf` can not be a field of a module
    //~ FIXED Plain(#[module(static)] std::path::PathBuf),
    Heads(Vec<Head>),
}

fn main() {}
