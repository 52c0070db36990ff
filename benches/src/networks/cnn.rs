use candle_bridge::graph::{Rngs, StatefulModule};
use candle_bridge::ops::relu;
use candle_bridge::random::{Initializer, Key, normal};
use candle_bridge::stateful::Linear;
use candle_bridge::vars::Param;
use candle_core::{DType, Device, Tensor};

use super::{Network, Result};

/// A 3x3 convolution without padding; `kernel` is `[3, 3, inputs, outputs]`.
#[derive(StatefulModule)]
struct Conv {
    kernel: Param,
    bias: Param,
}

impl Conv {
    fn new(inputs: usize, outputs: usize, rngs: &Rngs) -> Result<Self> {
        let kernel = rngs.param(&Initializer::lecun_normal(), (3, 3, inputs, outputs))?;
        Ok(Self { kernel, bias: rngs.param(&Initializer::Zeros, outputs)? })
    }

    /// `[batch, channels, height, width]`, as candle's convolution takes it.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kernel = self.kernel.value()?.permute((3, 2, 0, 1))?.contiguous()?;
        let bias = self.bias.value()?;
        let bias = bias.reshape((1, bias.elem_count(), 1, 1))?;
        Ok(x.conv2d(&kernel, 0, 1, 1, 1)?.broadcast_add(&bias)?)
    }
}

/// On 28x28 images, 64 a batch: two convolutions of 32 and 64 channels with relu, a 2x2 max-pool, and a dense layer over
/// what is left in the order height, width, channel. 110,986 parameters.
#[derive(StatefulModule)]
pub(crate) struct Cnn {
    convs: [Conv; 2],
    dense: Linear,
}

impl Network for Cnn {
    fn new(rngs: &Rngs) -> Result<Self> {
        let convs = [Conv::new(1, 32, rngs)?, Conv::new(32, 64, rngs)?];
        Ok(Self { convs, dense: Linear::new(9216, 10, rngs)? })
    }

    fn inputs(key: Key) -> Result<Tensor> {
        Ok(normal(key, (64, 28, 28, 1), DType::F32, &Device::Cpu)?)
    }

    fn forward(&self, inputs: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.convs;
        let x = relu(&first.forward(&inputs.permute((0, 3, 1, 2))?.contiguous()?)?)?;
        let x = max_pool(&relu(&second.forward(&x)?)?)?;
        self.dense.forward(&x.permute((0, 2, 3, 1))?.flatten_from(1)?)
    }
}

/// Of 2x2 windows. candle's own `max_pool2d` divides its gradient by the area of the window.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let windows = x.reshape((batch, channels, height / 2, 2, width / 2, 2))?.permute((0, 1, 2, 4, 3, 5))?;
    Ok(windows.contiguous()?.reshape((batch, channels, height / 2, width / 2, 4))?.max(4)?)
}
