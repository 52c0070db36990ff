use bridge_vars::{Leaf, Result, State, Variables};
use candle_core::Tensor;

/// What can be returned beside a loss: it is cut off from the graph, so that keeping it does not keep
/// every activation alive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be returned beside a loss",
    note = "return tensors, `State`, `Variables`, numbers, or tuples, vectors and options of them; for a type of your own, \
            write `impl Detach for {Self}`"
)]
pub trait Detach {
    /// The same without the graph.
    #[must_use]
    fn detached(self) -> Self;
}

impl Detach for Tensor {
    fn detached(self) -> Self {
        self.detach()
    }
}
impl Detach for Leaf {
    fn detached(self) -> Self {
        Self { value: self.value.detached(), ..self }
    }
}
impl Detach for State {
    fn detached(self) -> Self {
        self.tree().map(|_, leaf| leaf.clone().detached()).into()
    }
}
impl Detach for Variables {
    fn detached(self) -> Self {
        self.tree().map(|_, leaf| leaf.clone().detached()).into()
    }
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Detach for $type {
            fn detached(self) -> Self {
                self
            }
        }
    )*};
}
plain!((), bool, u8, u32, u64, usize, i32, i64, f32, f64, String);

impl<T: Detach> Detach for Option<T> {
    fn detached(self) -> Self {
        self.map(T::detached)
    }
}
impl<T: Detach> Detach for Vec<T> {
    fn detached(self) -> Self {
        self.into_iter().map(T::detached).collect()
    }
}
impl<T: Detach> Detach for Result<T> {
    fn detached(self) -> Self {
        self.map(T::detached)
    }
}
impl<A: Detach, B: Detach> Detach for (A, B) {
    fn detached(self) -> Self {
        (self.0.detached(), self.1.detached())
    }
}
impl<A: Detach, B: Detach, C: Detach> Detach for (A, B, C) {
    fn detached(self) -> Self {
        (self.0.detached(), self.1.detached(), self.2.detached())
    }
}
