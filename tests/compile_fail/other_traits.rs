use std::collections::BTreeMap;

use bridge_graph::{Field, StatefulModule};
use bridge_vars::{Filter, Param};

fn module<M: Field>() {}

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name;

#[derive(StatefulModule)]
struct Layer(Param);

fn main() {
    module::<BTreeMap<Name, Layer>>(); //~ ERROR BTreeMap<Name, Layer>: `Name` can not be the key of a map of modules or variables
    //~ FIXED module::<BTreeMap<String, Layer>>();
    let _filter = Filter::of::<Layer>(); //~ ERROR Layer: `Layer` is not a type of variable
    //~ FIXED let _filter = Filter::of::<Param>();
    let _name = Name;
}
