//! The part of Python's pickle format that describes tensors. Nothing is executed, and nothing is built by recursion:
//! values refer to each other by number.

use rustc_hash::FxHashMap;

use super::header::{Refused, malformed};

/// A value, or where the rest of it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// What Python would import: a module and a name in it.
    Global(&'a str, &'a str),
    Tuple(usize),
    List(usize),
    Dict(usize),
    /// What a call would give: what is called, and with what.
    Call(usize),
    /// Something outside of the pickle, by what is said of it.
    Outside(usize),
    /// Where a list of items began.
    Mark,
}

#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// What items refer to by their numbers: the parts of a tuple, the items of a list, keys and values in turns.
    parts: Vec<Vec<Item<'a>>>,
    pub(super) top: Item<'a>,
}

struct Reader<'a> {
    rest: &'a [u8],
    stack: Vec<Item<'a>>,
    memo: FxHashMap<u32, Item<'a>>,
    parts: Vec<Vec<Item<'a>>>,
    /// How many items the file's length justifies in one place: an item takes more room than its instruction.
    most: usize,
}

/// So many bytes of a file justify one more item.
const BYTES_PER_ITEM: usize = 28;
const FEW_ITEMS: usize = 64;

impl<'a> Pickle<'a> {
    /// Reads a pickle that is part of a file of this length.
    pub(super) fn read(bytes: &'a [u8], file_length: u64) -> Result<Self, Refused> {
        let most = usize::try_from(file_length).unwrap_or(usize::MAX) / BYTES_PER_ITEM;
        let mut reader = Reader {
            rest: bytes,
            stack: vec![],
            memo: FxHashMap::default(),
            parts: vec![],
            most: most.max(FEW_ITEMS),
        };
        while reader.step()? {}
        let top = reader.pop()?;
        Ok(Self { parts: reader.parts, top })
    }

    /// The parts of a tuple, a list, a dict (keys and values in turns), a call (what, with what), or something outside.
    pub(super) fn parts(&self, item: Item<'a>) -> &[Item<'a>] {
        match item {
            Item::Tuple(at) | Item::List(at) | Item::Dict(at) | Item::Call(at) | Item::Outside(at) => {
                self.parts.get(at).map_or(&[], Vec::as_slice)
            }
            _ => &[],
        }
    }
}

impl<'a> Reader<'a> {
    /// Follows one instruction; false at the end.
    fn step(&mut self) -> Result<bool, Refused> {
        let code = self.byte()?;
        match code {
            // PROTO, FRAME
            0x80 => _ = self.byte()?,
            0x95 => _ = self.take(8)?,
            b'.' => return Ok(false),
            b'N' => self.push(Item::None)?,
            0x88 => self.push(Item::Bool(true))?,
            0x89 => self.push(Item::Bool(false))?,
            // BININT1, BININT2, BININT, LONG1
            b'K' => {
                let number = self.byte()?;
                self.push(Item::Int(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Item::Int(number.into()))?;
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Item::Int(number.into()))?;
            }
            0x8a => {
                let length = self.byte()?.into();
                let bytes = self.take(length)?;
                let mut number = [if bytes.last().is_some_and(|last| *last > 0x7f) { 0xff } else { 0 }; 8];
                match number.get_mut(..length) {
                    Some(low) => low.copy_from_slice(bytes),
                    None => return malformed("its pickle has a number beyond 64 bits"),
                }
                self.push(Item::Int(i64::from_le_bytes(number)))?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Item::Float(number))?;
            }
            // SHORT_BINUNICODE, BINUNICODE
            0x8c => {
                let length = self.byte()?.into();
                self.text(length)?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Item::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (module, name) {
                    (Item::Text(module), Item::Text(name)) => self.push(Item::Global(module, name))?,
                    _ => return malformed("its pickle imports what is no name"),
                }
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let at = self.byte()?.into();
                self.remember(at)?;
            }
            b'r' => {
                let at = u32::from_le_bytes(self.array()?);
                self.remember(at)?;
            }
            0x94 => self.remember(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))?,
            b'h' => {
                let at = self.byte()?.into();
                self.recall(at)?;
            }
            b'j' => {
                let at = u32::from_le_bytes(self.array()?);
                self.recall(at)?;
            }
            b'(' => self.push(Item::Mark)?,
            b')' => self.make(Item::Tuple, vec![])?,
            b']' => self.make(Item::List, vec![])?,
            b'}' => self.make(Item::Dict, vec![])?,
            0x85..=0x87 => {
                let at = self.stack.len().checked_sub(usize::from(code - 0x84));
                let parts = self.above(at)?;
                self.make(Item::Tuple, parts)?;
            }
            b't' => {
                let parts = self.marked()?;
                self.make(Item::Tuple, parts)?;
            }
            b'l' => {
                let parts = self.marked()?;
                self.make(Item::List, parts)?;
            }
            b'd' => {
                let parts = self.marked()?;
                self.make(Item::Dict, parts)?;
            }
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => {
                let at = self.stack.len().checked_sub(1);
                let parts = self.above(at)?;
                self.extend(parts)?;
            }
            b's' => {
                let at = self.stack.len().checked_sub(2);
                let parts = self.above(at)?;
                self.extend(parts)?;
            }
            b'e' | b'u' => {
                let parts = self.marked()?;
                self.extend(parts)?;
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let at = self.stack.len().checked_sub(2);
                let parts = self.above(at)?;
                match parts.first() {
                    Some(Item::Global("collections", "OrderedDict" | "defaultdict")) => {
                        self.make(Item::Dict, vec![])?;
                    }
                    _ => self.make(Item::Call, parts)?,
                }
            }
            // BUILD: what an object's own code would do with its state, such as a dict's `_metadata`.
            b'b' => _ = self.pop()?,
            b'Q' => {
                let id = self.pop()?;
                self.make(Item::Outside, vec![id])?;
            }
            b'0' => _ = self.pop()?,
            other => {
                return malformed(format!(
                    "its pickle has the instruction {other:#04x}, which tensors do not need"
                ));
            }
        }
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => malformed("its pickle is cut short"),
        }
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => malformed("its pickle is cut short"),
        }
    }

    fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str, Refused> {
        std::str::from_utf8(bytes).or_else(|_| malformed("its pickle has a text that is not UTF-8"))
    }

    fn text(&mut self, length: usize) -> Result<(), Refused> {
        let bytes = self.take(length)?;
        let text = self.utf8(bytes)?;
        self.push(Item::Text(text))
    }

    fn line(&mut self) -> Result<&'a str, Refused> {
        let length = self.rest.iter().position(|byte| *byte == b'\n');
        let Some(length) = length else { return malformed("its pickle is cut short") };
        let bytes = self.take(length)?;
        self.byte()?;
        self.utf8(bytes)
    }

    fn check(&self, count: usize) -> Result<(), Refused> {
        match count <= self.most {
            true => Ok(()),
            false => malformed("its pickle describes more than the file can hold"),
        }
    }

    fn push(&mut self, item: Item<'a>) -> Result<(), Refused> {
        self.check(self.stack.len() + 1)?;
        self.stack.push(item);
        Ok(())
    }

    fn pop(&mut self) -> Result<Item<'a>, Refused> {
        match self.stack.pop() {
            Some(item) => Ok(item),
            None => malformed("its pickle takes what is not there"),
        }
    }

    /// What is above this place of the stack.
    fn above(&mut self, at: Option<usize>) -> Result<Vec<Item<'a>>, Refused> {
        match at {
            Some(at) if at <= self.stack.len() => Ok(self.stack.split_off(at)),
            _ => malformed("its pickle takes what is not there"),
        }
    }

    /// What is above the last mark, which goes.
    fn marked(&mut self) -> Result<Vec<Item<'a>>, Refused> {
        let mark = self.stack.iter().rposition(|item| *item == Item::Mark);
        let parts = self.above(mark.map(|mark| mark + 1))?;
        self.pop()?;
        Ok(parts)
    }

    fn make(&mut self, item: fn(usize) -> Item<'a>, parts: Vec<Item<'a>>) -> Result<(), Refused> {
        self.check(self.parts.len() + 1)?;
        self.parts.push(parts);
        self.push(item(self.parts.len() - 1))
    }

    /// Adds to the list or dict on the stack.
    fn extend(&mut self, parts: Vec<Item<'a>>) -> Result<(), Refused> {
        let most = self.most;
        let container = match self.stack.last() {
            Some(Item::List(at) | Item::Dict(at)) => self.parts.get_mut(*at),
            _ => None,
        };
        match container {
            Some(container) if container.len() + parts.len() <= most => {
                container.extend(parts);
                Ok(())
            }
            Some(_) => malformed("its pickle describes more than the file can hold"),
            None => malformed("its pickle adds to what is no list and no dict"),
        }
    }

    fn remember(&mut self, at: u32) -> Result<(), Refused> {
        self.check(self.memo.len() + 1)?;
        let item = self.pop()?;
        self.stack.push(item);
        self.memo.insert(at, item);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), Refused> {
        match self.memo.get(&at).copied() {
            Some(item) => self.push(item),
            None => malformed("its pickle refers to what did not come before"),
        }
    }
}
