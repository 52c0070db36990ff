use syn::ext::IdentExt;
use syn::{Data, DeriveInput, GenericParam, Generics, Ident, Member, Path, Type};

use crate::attribute::{Attributes, Place};
use crate::errors::Errors;

/// A type that derives, as the later steps see it.
pub(crate) struct Module {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    /// The path of the crate that the expansion names, if it is not the default one.
    pub(crate) root: Option<Path>,
    /// The name in files and messages.
    pub(crate) name: String,
    /// In order of their keys.
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
    /// Reads a type and its attributes. A type that is not a struct has no fields here.
    pub(crate) fn parse(input: DeriveInput, errors: &mut Errors) -> Self {
        let attributes = Attributes::parse(&input.attrs, Place::Type, errors);
        let mut fields = Vec::new();
        if let Data::Struct(data) = input.data {
            let members: Vec<_> = data.fields.members().collect();
            for ((index, field), member) in data.fields.into_iter().enumerate().zip(members) {
                let attributes = Attributes::parse(&field.attrs, Place::Field, errors);
                let key = match (&attributes.rename, &field.ident) {
                    (Some(name), _) => Key::Name(name.value()),
                    (None, Some(ident)) => Key::Name(ident.unraw().to_string()),
                    (None, None) => Key::Index(index),
                };
                fields.push(Field { member, ty: field.ty, key, attributes });
            }
        }
        fields.sort_by(|a, b| a.key.cmp(&b.key));
        let name = attributes.rename.map_or_else(|| input.ident.unraw().to_string(), |name| name.value());
        let mut generics = input.generics;
        // The implementations repeat the parameters, where an attribute has no business.
        for parameter in &mut generics.params {
            match parameter {
                GenericParam::Type(parameter) => parameter.attrs.clear(),
                GenericParam::Const(parameter) => parameter.attrs.clear(),
                GenericParam::Lifetime(parameter) => parameter.attrs.clear(),
            }
        }
        Self { ident: input.ident, generics, root: attributes.root, name, fields }
    }
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
        let fields: Vec<_> = module.fields.iter().map(|field| (field.key.clone(), field.role())).collect();
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
}
