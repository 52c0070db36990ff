use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
struct Net {
    #[module(static, skip)] //~ ERROR skip: kept in the description) or `skip` (rebuilt by `Default`): remove one
    //~ FIXED #[module(static)]
    size: usize,
    #[module(skip, rename = "calls")] //~ ERROR "calls": a skipped field has no name in files
    //~ FIXED #[module(skip)]
    count: usize,
}

fn main() {}
