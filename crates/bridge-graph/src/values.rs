use bridge_vars::{Leaf, Node, PathKey, Tree, Variable};
use candle_core::Tensor;

/// Where a module that is rebuilt has its values from.
#[derive(Debug)]
pub(crate) enum Values<'a> {
    /// From a state, by path.
    State { state: &'a Tree<Leaf>, places: Vec<Place<'a>>, taken: usize },
    /// From a walk over a module of the same description, in order.
    Walk { handles: &'a [Handle], next: usize, fresh: bool },
}

/// What a walk over a module met that has a value.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Variable(Variable),
    Tensor(Tensor),
}

/// A place in a state's tree. Children are mostly asked for in order, so the next one is tried first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Nothing,
    Leaf(&'a Leaf),
    Node { node: &'a Node<Leaf>, next: usize },
}

impl<'a> Place<'a> {
    pub(crate) fn of(tree: &'a Tree<Leaf>) -> Self {
        match tree {
            Tree::Leaf(leaf) => Self::Leaf(leaf),
            Tree::Node(node) => Self::Node { node, next: 0 },
        }
    }

    pub(crate) fn child(&mut self, key: &PathKey) -> Self {
        let Self::Node { node, next } = self else { return Self::Nothing };
        let children = node.children();
        let at = match children.get(*next) {
            Some((other, _)) if other == key => *next,
            _ => match children.binary_search_by(|(other, _)| other.cmp(key)) {
                Ok(at) => at,
                Err(_) => return Self::Nothing,
            },
        };
        *next = at + 1;
        children.get(at).map_or(Self::Nothing, |(_, child)| Self::of(child))
    }
}
