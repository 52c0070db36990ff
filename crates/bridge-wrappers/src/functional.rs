use std::fmt;
use std::sync::{PoisonError, RwLock};

use bridge_graph::{Field, GraphDef, Rngs, merge, split};
use bridge_vars::{Leaf, Path, Result, State};

use crate::WrapperError;
use crate::constructor::Constructor;

/// The functional API over a stateful module: what [`functional`] gives.
#[doc(alias = "bridge.Functional")]
pub struct Functional<M> {
    constructor: Constructor<M>,
    /// The descriptions that its states fit, the last one first.
    graphdefs: RwLock<Vec<GraphDef<M>>>,
}

/// The functional API over a stateful module: `init` gives its state, `apply` takes one and gives the next.
///
/// ```
/// use bridge_graph::Rngs;
/// use bridge_stateful::Linear;
/// use bridge_wrappers::functional;
/// use candle_core::{DType, Device, Tensor};
/// let linear = functional(|rngs| Linear::new(2, 3, rngs));
/// let state = linear.init(&Rngs::new(0))?;
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let (y, state) = linear.apply(&state, |linear| linear.forward(&x))?;
/// assert_eq!((y.dims(), state.len()), (&[1, 3][..], 2));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "bridge.functional")]
pub fn functional<M: Field>(
    constructor: impl Fn(&Rngs) -> Result<M> + Send + Sync + 'static,
) -> Functional<M> {
    Functional { constructor: Constructor::new(constructor), graphdefs: RwLock::default() }
}

/// How many descriptions are kept: those of the last states of other forms.
const KEPT: usize = 8;

impl<M: Field> Functional<M> {
    /// Constructs the module and gives its state; keeps its description.
    ///
    /// # Errors
    /// What the constructor returns.
    pub fn init(&self, rngs: &Rngs) -> Result<State> {
        let (graphdef, state) = split(&self.constructor.construct(&(), rngs)?)?;
        self.keep(graphdef);
        Ok(state)
    }

    /// The module's description.
    ///
    /// # Errors
    /// [`WrapperError::NotInitialized`] before [`Functional::init`].
    pub fn graphdef(&self) -> Result<GraphDef<M>> {
        let graphdefs = self.graphdefs.read().unwrap_or_else(PoisonError::into_inner);
        graphdefs.first().cloned().ok_or_else(|| WrapperError::NotInitialized.into())
    }

    fn keep(&self, graphdef: GraphDef<M>) {
        let mut graphdefs = self.graphdefs.write().unwrap_or_else(PoisonError::into_inner);
        graphdefs.insert(0, graphdef);
        graphdefs.truncate(KEPT);
    }

    /// The module of a state, by the last description that it fits.
    fn module(&self, state: &State) -> Result<M> {
        let module = merge(&self.graphdef()?, state);
        if module.is_ok() {
            return module;
        }
        let earlier = self.graphdefs.read().unwrap_or_else(PoisonError::into_inner).clone();
        earlier.iter().skip(1).find_map(|graphdef| merge(graphdef, state).ok()).map_or(module, Ok)
    }

    /// Runs any method of the module with this state, or with several that make up one; gives what it returned and the state
    /// after it.
    ///
    /// ```
    /// # use bridge_graph::Rngs;
    /// # use bridge_stateful::BatchNorm;
    /// # use bridge_vars::{Filter, Param};
    /// # use bridge_wrappers::functional;
    /// # use candle_core::{DType, Device, Tensor};
    /// let norm = functional(|rngs| BatchNorm::new(2, rngs));
    /// let [params, statistics] = norm.init(&Rngs::new(0))?.split([Filter::of::<Param>(), Filter::Everything])?;
    /// let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
    /// let (_y, state) = norm.apply(&[&params, &statistics], |norm| norm.forward(&x))?;
    /// assert_eq!(state.len(), 4);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// The states that are passed do not change. If the method made, removed or reshaped variables, the description that is kept
    /// becomes that of the module after the call, which fits the state that is returned; states of before fit still.
    ///
    /// # Errors
    /// [`WrapperError::NotInitialized`], states that hold one path twice or do not fit, and what `method` returns.
    pub fn apply<T>(
        &self,
        states: &(impl States + ?Sized),
        method: impl FnOnce(&M) -> Result<T>,
    ) -> Result<(T, State)> {
        let before = states.merged()?;
        let module = self.module(&before)?;
        let output = method(&module)?;
        let (graphdef, state) = split(&module)?;
        let fits = |(path, leaf): (Path, &Leaf)| {
            before.tree().get(&path).is_some_and(|before| {
                leaf.value.has_form_of(&before.value) && leaf.metadata == before.metadata
            })
        };
        if state.len() != before.len() || !state.iter().all(fits) {
            self.keep(graphdef);
        }
        Ok((output, state))
    }
}

/// A state, or several that make up one.
pub trait States {
    /// All leaves in one state.
    ///
    /// # Errors
    /// If two hold a leaf at the same path.
    fn merged(&self) -> Result<State>;
}
impl States for State {
    fn merged(&self) -> Result<State> {
        Ok(self.clone())
    }
}
impl States for [&State] {
    fn merged(&self) -> Result<State> {
        State::merge(self.iter().copied().cloned())
    }
}
impl<const N: usize> States for [&State; N] {
    fn merged(&self) -> Result<State> {
        self[..].merged()
    }
}
impl States for [State] {
    fn merged(&self) -> Result<State> {
        State::merge(self.iter().cloned())
    }
}
impl<const N: usize> States for [State; N] {
    fn merged(&self) -> Result<State> {
        self[..].merged()
    }
}

impl<M> fmt::Debug for Functional<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functional").field("constructor", &self.constructor).finish_non_exhaustive()
    }
}
