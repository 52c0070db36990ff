use bridge_graph::StatefulModule;

struct Config;
//~ FIXED #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)] struct Config;

#[derive(StatefulModule)]
struct Net {
    #[module(static)]
    config: Config, //~ ERROR Config: `Config` can not be a static field
}

fn main() {}
