use std::fmt::Write;

use bridge_vars::{PathKey, Result, TensorForm, Variable};
use candle_core::Tensor;

use crate::visit::goes_inside;
use crate::{Attribute, StatefulModule, Structure, Visit, Visitor};

/// The dtypes and shapes of what a call takes or gives, in one line: `f32[8, 4]`, `(f32[2], none)`, `{a: f32[3]}`.
///
/// # Errors
/// If a variable in it can not be read.
pub fn shapes<T: Visit + ?Sized>(value: &T) -> Result<String> {
    let mut writer = Writer { text: String::new(), open: Vec::new() };
    value.visit(&mut writer)?;
    Ok(writer.text)
}

struct Writer {
    text: String,
    /// For each open node: how it ends, whether keys are written, and whether something came before.
    open: Vec<(&'static str, bool, bool)>,
}

impl Writer {
    fn form(&mut self, form: &TensorForm) {
        // Writing to a text does not fail.
        let _ = write!(self.text, "{form}");
    }
}

impl Visitor for Writer {
    fn enter(&mut self, structure: Structure, _module: Option<&dyn StatefulModule>) -> Result<()> {
        let (begin, end, keys) = match structure {
            Structure::List => ("[", "]", false),
            Structure::Tuple => ("(", ")", false),
            _ => ("{", "}", true),
        };
        self.text.push_str(begin);
        self.open.push((end, keys, false));
        Ok(())
    }
    fn exit(&mut self) -> Result<()> {
        if let Some((end, ..)) = self.open.pop() {
            self.text.push_str(end);
        }
        Ok(())
    }
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        if let Some((_, keys, before)) = self.open.last_mut() {
            if std::mem::replace(before, true) {
                self.text.push_str(", ");
            }
            if *keys {
                let _ = write!(self.text, "{key}: ");
            }
        }
        child.visit(self)
    }
    fn optional(&mut self, part: Option<&dyn Visit>) -> Result<()> {
        match part {
            Some(part) => part.visit(self),
            None => {
                self.text.push_str("none");
                Ok(())
            }
        }
    }
    fn shared(&mut self, _id: usize, target: &dyn Visit) -> Result<()> {
        target.visit(self)
    }
    goes_inside!(boxed);
    fn variable(&mut self, variable: &Variable) -> Result<()> {
        let value = variable.leaf()?.value;
        match value.tensor_form() {
            Some(form) => self.form(form),
            None => self.text.push_str(value.kind()),
        }
        Ok(())
    }
    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        self.form(&TensorForm::from(tensor));
        Ok(())
    }
    fn attribute(&mut self, attribute: &dyn Fn() -> Attribute) -> Result<()> {
        self.text.push_str(&attribute().to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn one_line_for_anything() {
        let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let check = |value: &dyn Visit, text: &str| assert_eq!(shapes(value).unwrap(), text);
        check(&tensor(&[2, 3]), "f32[2, 3]");
        check(&(tensor(&[1]), None::<Tensor>, true), "(f32[1], none, true)");
        check(&vec![tensor(&[]), tensor(&[4])], "[f32[], f32[4]]");
        check(&(), "()");
        check(&"text".to_owned(), "\"text\"");
    }
}
