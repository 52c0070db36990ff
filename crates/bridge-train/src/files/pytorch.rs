//! The tensors of a file that `torch.save` wrote: a zip archive of a pickle and of storages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use bridge_vars::{Path, PathKey};
use rustc_hash::FxHashMap;
use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::header::{Header, Place, Refused, malformed};
use super::pickle::{Item, Pickle};
use super::tensor_file::read_exact_at;

/// Dicts may be nested this deep.
const MAX_DEPTH: usize = 32;

/// What an archive has under a name: where it begins, and how long it is.
type Entries = FxHashMap<String, (u64, u64)>;

pub(super) fn read(file: &File, number: usize) -> Result<Header, Refused> {
    let length = file.metadata()?.len();
    let entries = entries(file, length)?;
    let pickles: Vec<_> = entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).collect();
    let [folder] = pickles[..] else {
        return malformed(format!(
            "it is a zip archive of {} pickles, `torch.save` writes one",
            pickles.len()
        ));
    };
    let big_endian = entries.get(&format!("{folder}byteorder"));
    if let Some((start, size)) = big_endian {
        let mut order = vec![0; (*size).min(16) as usize];
        read_exact_at(file, &mut order, *start)?;
        if order != b"little" {
            return malformed("its numbers are not little-endian");
        }
    }
    let (start, size) = entries.get(&format!("{folder}data.pkl")).copied().unwrap_or_default();
    let mut bytes = vec![0; size as usize];
    read_exact_at(file, &mut bytes, start)?;
    let pickle = Pickle::read(&bytes, length)?;
    let mut found = Found {
        pickle: &pickle,
        number,
        entries: &entries,
        folder,
        header: Header { metadata: BTreeMap::new(), tensors: BTreeMap::new() },
        // A pickle can refer to one dict many times.
        left: length,
    };
    found.collect(pickle.top, &Path::root())?;
    Ok(found.header)
}

fn entries(file: &File, length: u64) -> Result<Entries, Refused> {
    let unreadable = |error| Refused::Malformed(format!("no zip archive: {error}"));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(unreadable)?;
    let mut entries = Entries::default();
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number).map_err(unreadable)?;
        let name = entry.name().map_err(unreadable)?.into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return malformed(format!("`{name}` in it is compressed, which `torch.save` does not do"));
        }
        let (start, size) = (entry.data_start().unwrap_or(u64::MAX), entry.size());
        if start.checked_add(size).is_none_or(|end| end > length) {
            return malformed(format!("`{name}` in it reaches beyond its end"));
        }
        entries.insert(name, (start, size));
    }
    Ok(entries)
}

struct Found<'a, 'p> {
    pickle: &'p Pickle<'a>,
    entries: &'p Entries,
    folder: &'p str,
    /// Of the file, among several.
    number: usize,
    header: Header,
    /// How many more items may be looked at.
    left: u64,
}

impl<'a> Found<'a, '_> {
    /// Takes the tensors of a dict, and of dicts and lists inside; other values become metadata.
    fn collect(&mut self, item: Item<'a>, path: &Path) -> Result<(), Refused> {
        match self.left.checked_sub(1) {
            Some(left) if path.len() <= MAX_DEPTH => self.left = left,
            _ => return malformed("its pickle is nested too deeply, or repeats itself too often"),
        }
        let name = || path.to_string();
        match item {
            Item::Dict(_) => {
                for entry in self.pickle.parts(item).chunks(2) {
                    let [key, value] = entry else {
                        return malformed("its pickle has a key without a value");
                    };
                    let below = match key {
                        // A name in a `state_dict` is a path by itself.
                        Item::Text(text) => path.concat(&Path::from(*text)),
                        Item::Int(number) => match usize::try_from(*number) {
                            Ok(index) => path.join(index),
                            Err(_) => path.join(PathKey::from(number.to_string().as_str())),
                        },
                        _ => {
                            return malformed(format!(
                                "`{}` has a key that is neither text nor number",
                                name()
                            ));
                        }
                    };
                    self.collect(*value, &below)?;
                }
            }
            Item::List(_) | Item::Tuple(_) => {
                for (index, part) in self.pickle.parts(item).iter().enumerate() {
                    self.collect(*part, &path.join(index))?;
                }
            }
            Item::Call(_) => match self.tensor(item, &name())? {
                Some(place) => {
                    if self.header.tensors.insert(name(), place).is_some() {
                        return malformed(format!("it has two tensors of the name `{}`", name()));
                    }
                }
                None => self.note(name(), "an object of Python".into()),
            },
            Item::Bool(value) => self.note(name(), value.to_string()),
            Item::Int(value) => self.note(name(), value.to_string()),
            Item::Float(value) => self.note(name(), value.to_string()),
            Item::Text(value) => self.note(name(), value.into()),
            Item::None => self.note(name(), "None".into()),
            Item::Global(module, class) => self.note(name(), format!("{module}.{class}")),
            Item::Outside(_) | Item::Mark => {
                return malformed(format!("`{}` is neither a tensor nor a value", name()));
            }
        }
        Ok(())
    }

    fn note(&mut self, name: String, value: String) {
        self.header.metadata.insert(name, value);
    }

    /// A tensor, if the call would make one.
    fn tensor(&self, call: Item<'a>, name: &str) -> Result<Option<Place>, Refused> {
        let mut call = call;
        // A parameter is a call of a tensor.
        for _ in 0..4 {
            let [function, arguments] = self.pickle.parts(call) else { return Ok(None) };
            let arguments = self.pickle.parts(*arguments);
            match (function, arguments) {
                (Item::Global("torch._utils", "_rebuild_tensor_v2"), [storage, offset, size, stride, ..]) => {
                    return self.place(*storage, *offset, *size, *stride, name).map(Some);
                }
                (Item::Global("torch._utils", "_rebuild_parameter"), [tensor, ..]) => call = *tensor,
                (Item::Global("torch._tensor", "_rebuild_from_type_v2"), [function, _, arguments, ..]) => {
                    if let (
                        Item::Global("torch._utils", "_rebuild_tensor_v2"),
                        [storage, offset, size, stride, ..],
                    ) = (function, self.pickle.parts(*arguments))
                    {
                        return self.place(*storage, *offset, *size, *stride, name).map(Some);
                    }
                    return Ok(None);
                }
                (Item::Global(module, function), _) if module.starts_with("torch") => {
                    return malformed(format!(
                        "`{name}` is made by `{module}.{function}`, which is not understood: save a `state_dict` of \
                         dense tensors"
                    ));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn place(
        &self,
        storage: Item<'a>,
        offset: Item<'a>,
        size: Item<'a>,
        stride: Item<'a>,
        name: &str,
    ) -> Result<Place, Refused> {
        let refused = |reason: &str| malformed(format!("`{name}` {reason}"));
        let [id] = self.pickle.parts(storage) else { return refused("has no storage") };
        let [_, Item::Global("torch", class), Item::Text(key), ..] = self.pickle.parts(*id) else {
            return refused("has a storage of an unknown form");
        };
        let dtype = match *class {
            "FloatStorage" => Dtype::F32,
            "DoubleStorage" => Dtype::F64,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::BF16,
            "ByteStorage" => Dtype::U8,
            "CharStorage" => Dtype::I8,
            "ShortStorage" => Dtype::I16,
            "IntStorage" => Dtype::I32,
            "LongStorage" => Dtype::I64,
            "BoolStorage" => Dtype::BOOL,
            _ => return refused(&format!("is of a `{class}`, which no tensor of candle can be")),
        };
        let Some((start, length)) = self.entries.get(&format!("{}data/{key}", self.folder)) else {
            return refused("has a storage that the archive lacks");
        };
        let (Some(shape), Some(strides)) = (self.numbers(size), self.numbers(stride)) else {
            return refused("has no shape");
        };
        let Item::Int(offset) = offset else { return refused("has no place in its storage") };
        let width = dtype.bitsize() / 8;
        let count = shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim));
        // Where the last element is.
        let last = shape.iter().zip(&strides).try_fold(0usize, |last, (dim, stride)| {
            last.checked_add(dim.saturating_sub(1).checked_mul(*stride)?)
        });
        let span = match (count, last) {
            (Some(0), _) => Some(0),
            (Some(count), Some(last)) if count <= last.saturating_add(1) => last.checked_add(1),
            (Some(_), Some(_)) => {
                return refused("repeats its elements: save `tensor.contiguous()` instead");
            }
            _ => None,
        };
        let bytes = |elements: usize| elements.checked_mul(width).map(|bytes| bytes as u64);
        let begin = usize::try_from(offset).ok().and_then(bytes);
        let end = begin.zip(span.and_then(bytes)).and_then(|(begin, span)| begin.checked_add(span));
        let (Some(begin), Some(_), true) = (begin, count, end.is_some_and(|end| end <= *length)) else {
            return refused("reaches beyond its storage");
        };
        if shape.len() != strides.len() {
            return refused("has another number of strides than of dimensions");
        }
        let mut dense = 1;
        let contiguous = shape.iter().zip(&strides).rev().all(|(dim, stride)| {
            let fits = *dim == 1 || *stride == dense;
            dense *= dim;
            fits
        });
        let strides = (!contiguous && count != Some(0)).then_some(strides);
        let length = span.unwrap_or_default() * width;
        Ok(Place { file: self.number, dtype, shape, start: start + begin, length, strides })
    }

    fn numbers(&self, item: Item<'a>) -> Option<Vec<usize>> {
        let Item::Tuple(_) = item else { return None };
        let number = |item: &Item<'_>| match item {
            Item::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        self.pickle.parts(item).iter().map(number).collect()
    }
}
