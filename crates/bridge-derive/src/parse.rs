use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Fields, GenericParam, Generics, Ident, LitStr, Member, Path, Type};

use crate::attribute::{Attributes, Bound, Place};
use crate::errors::Errors;

/// A type that derives, as the later steps see it.
pub(crate) struct Module {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    /// The path of the crate that the expansion names, if it is not the default one.
    pub(crate) root: Option<Path>,
    /// The name in files and messages.
    pub(crate) name: String,
    /// The bounds in place of those that the fields lead to.
    pub(crate) bound: Option<Bound>,
    pub(crate) body: Body,
}

/// The fields, always in order of their keys.
pub(crate) enum Body {
    Struct(Vec<Field>),
    Enum(Vec<Variant>),
}

/// A variant of an enum.
pub(crate) struct Variant {
    pub(crate) ident: Ident,
    /// The name in files and messages.
    pub(crate) name: String,
    pub(crate) attributes: Attributes,
    pub(crate) fields: Vec<Field>,
}

/// A field of a module.
pub(crate) struct Field {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) key: Key,
    pub(crate) attributes: Attributes,
}

/// What becomes the `PathKey` of a field; it sorts in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Index(usize),
    Name(String),
}

/// What a module does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is a node, a variable or plain data.
    Child,
    /// It is configuration.
    Static,
    /// It is rebuilt by `Default`.
    Skip,
}

impl Field {
    pub(crate) fn role(&self) -> Role {
        match &self.attributes {
            Attributes { skip: Some(_), .. } => Role::Skip,
            Attributes { static_: Some(_), .. } => Role::Static,
            _ => Role::Child,
        }
    }
}

impl Module {
    /// Reads a type and its attributes. A union has no fields here.
    pub(crate) fn parse(input: DeriveInput, errors: &mut Errors) -> Self {
        let attributes = Attributes::parse(&input.attrs, Place::Type, errors);
        let body = match input.data {
            Data::Struct(data) => Body::Struct(fields(data.fields, errors)),
            Data::Enum(data) => {
                Body::Enum(data.variants.into_iter().map(|variant| Variant::parse(variant, errors)).collect())
            }
            Data::Union(_) => Body::Struct(Vec::new()),
        };
        let name = name(&attributes, &input.ident);
        let mut generics = input.generics;
        // The implementations repeat the parameters, where an attribute has no business.
        for parameter in &mut generics.params {
            match parameter {
                GenericParam::Type(parameter) => parameter.attrs.clear(),
                GenericParam::Const(parameter) => parameter.attrs.clear(),
                GenericParam::Lifetime(parameter) => parameter.attrs.clear(),
            }
        }
        let Attributes { root, bound, .. } = attributes;
        Self { ident: input.ident, generics, root, name, bound, body }
    }

    /// The groups of fields that stand side by side: one of a struct, one for each variant of an enum.
    pub(crate) fn groups(&self) -> Vec<&[Field]> {
        match &self.body {
            Body::Struct(fields) => vec![fields],
            Body::Enum(variants) => variants.iter().map(|variant| &*variant.fields).collect(),
        }
    }
}

impl Variant {
    fn parse(variant: syn::Variant, errors: &mut Errors) -> Self {
        let attributes = Attributes::parse(&variant.attrs, Place::Variant, errors);
        let name = name(&attributes, &variant.ident);
        Self { ident: variant.ident, name, attributes, fields: fields(variant.fields, errors) }
    }
}

fn name(attributes: &Attributes, ident: &Ident) -> String {
    attributes.rename.as_ref().map_or_else(|| ident.unraw().to_string(), LitStr::value)
}

fn fields(fields: Fields, errors: &mut Errors) -> Vec<Field> {
    let members: Vec<_> = fields.members().collect();
    let mut parsed: Vec<_> = fields
        .into_iter()
        .zip(members)
        .enumerate()
        .map(|(index, (field, member))| {
            let attributes = Attributes::parse(&field.attrs, Place::Field, errors);
            let key = match (&attributes.rename, &field.ident) {
                (Some(name), _) => Key::Name(name.value()),
                (None, Some(ident)) => Key::Name(ident.unraw().to_string()),
                (None, None) => Key::Index(index),
            };
            Field { member, ty: field.ty, key, attributes }
        })
        .collect();
    parsed.sort_by(|a, b| a.key.cmp(&b.key));
    parsed
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn check(tokens: proc_macro2::TokenStream, name: &str, expected: &[(Key, Role)]) {
        let mut errors = Errors::default();
        let module = Module::parse(syn::parse2(tokens).unwrap(), &mut errors);
        assert_eq!(errors.messages(), [""; 0]);
        assert_eq!(module.name, name);
        let [fields] = module.groups()[..] else { panic!("several groups of fields") };
        let fields: Vec<_> = fields.iter().map(|field| (field.key.clone(), field.role())).collect();
        assert_eq!(fields, expected);
    }

    fn named(name: &str) -> Key {
        Key::Name(name.into())
    }

    #[test]
    fn fields_are_in_order_of_their_keys() {
        check(
            quote!(
                struct Mlp {
                    second: Linear,
                    #[module(skip)]
                    cache: Cache,
                    r#type: u32,
                    #[module(static, rename = "a")]
                    z: Config,
                    Upper: Linear,
                }
            ),
            "Mlp",
            &[
                (named("Upper"), Role::Child),
                (named("a"), Role::Static),
                (named("cache"), Role::Skip),
                (named("second"), Role::Child),
                (named("type"), Role::Child),
            ],
        );
    }

    #[test]
    fn tuple_structs_have_indices() {
        let many = (0..12).map(|_| quote!(Linear));
        let expected: Vec<_> = (0..12).map(|index| (Key::Index(index), Role::Child)).collect();
        check(quote!(struct Many(#(#many),*);), "Many", &expected);
        check(
            quote!(
                struct Pair(#[module(rename = "first")] Linear, Linear);
            ),
            "Pair",
            &[(Key::Index(1), Role::Child), (named("first"), Role::Child)],
        );
    }

    #[test]
    fn a_unit_struct_has_no_fields() {
        check(
            quote!(
                struct Identity;
            ),
            "Identity",
            &[],
        );
        check(
            quote!(
                #[module(rename = "My.Net")]
                struct r#struct {}
            ),
            "My.Net",
            &[],
        );
        check(
            quote!(
                struct r#struct {}
            ),
            "struct",
            &[],
        );
    }

    #[test]
    fn variants_have_their_own_fields() {
        let mut errors = Errors::default();
        let tokens = quote!(
            enum Head {
                Tied,
                #[module(rename = "own")]
                Own {
                    kernel: Param,
                    bias: Option<Param>,
                },
                r#Type(Param, #[module(static)] Config),
            }
        );
        let module = Module::parse(syn::parse2(tokens).unwrap(), &mut errors);
        assert_eq!(errors.messages(), [""; 0]);
        let Body::Enum(variants) = &module.body else { panic!("no enum") };
        let names: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(names, ["Tied", "own", "Type"]);
        let keys: Vec<_> = module.groups().into_iter().flatten().map(|field| field.key.clone()).collect();
        assert_eq!(keys, [named("bias"), named("kernel"), Key::Index(0), Key::Index(1)]);
    }
}
