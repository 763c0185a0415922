//! What would be read if a field were written otherwise?
//!
//! For trying a repair before it is proposed. Invariant: an edited resource is read and admitted as if it had been written
//! like that, and keeps its number; the set that it is taken from does not change.

use serde_json::{Map, Value};

use super::arena::Arena;
use super::{Loader, ManifestSet, Resource, locate, yaml};
use crate::origin::Origin;

impl ManifestSet {
    /// The set with a resource's fields written otherwise: what stands at each path, as YAML text has it.
    ///
    /// Text that begins as a list or a mapping is read as YAML; anything else stays what the field is, a number or a text.
    /// `None` when the origins are not of one resource, the resource was never text or takes no part, a path leads nowhere,
    /// or what comes out would not be admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// use dryroute::manifest::{Loader, Spec};
    ///
    /// let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80, name: tcp}]}";
    /// let set = Loader::new().text("web.yaml", text).load();
    /// let field = set.resources().next().unwrap().origin("spec.ports[0].name");
    /// let edited = set.edited([(&field, "http")]).unwrap();
    /// let Spec::Service(service) = &edited.resources().next().unwrap().spec else { panic!() };
    /// assert_eq!(service.ports[0].name, "http");
    /// ```
    pub fn edited<'e>(&self, edits: impl IntoIterator<Item = (&'e Origin, &'e str)>) -> Option<Self> {
        let mut edits = edits.into_iter().peekable();
        let id = edits.peek()?.0.resource()?;
        let index = id.0 as usize;
        let written = self.resources.len().saturating_sub(self.derived);
        if index >= written || !self.active.get(index).copied()? {
            return None;
        }
        let old = self.resources.get(index)?;
        let mut value = self.written(index)?;
        for (origin, text) in edits {
            let Origin::Field { resource, path } = origin else { return None };
            if *resource != id {
                return None;
            }
            set(&mut value, path, text)?;
        }
        let new = Loader::new()
            .default_namespace(old.meta.namespace.clone())
            .text("edited", value.to_string())
            .load();
        let ([read], [true]) = (new.resources.as_slice(), new.active.as_slice()) else { return None };
        if (read.kind, &read.meta.name, &read.meta.namespace)
            != (old.kind, &old.meta.name, &old.meta.namespace)
        {
            return None;
        }
        let mut out = self.clone();
        // What the cluster makes of resources is made again of the edited ones.
        out.resources.truncate(written);
        out.active.truncate(written);
        out.places.truncate(written);
        out.derived = 0;
        out.not_yet.retain(|(of, _)| *of != id);
        out.not_yet.extend(new.not_yet.iter().map(|(_, path)| (id, path.clone())));
        *out.resources.get_mut(index)? = Resource { id, ..read.clone() };
        Some(out)
    }

    /// A resource as JSON, as it was written.
    fn written(&self, index: usize) -> Option<Value> {
        let place = self.places.get(index)?;
        let source = self.sources.get(place.file as usize)?;
        let text = source.text.get(place.start as usize..place.end as usize)?;
        let text = super::split::settle_tabs(text);
        let arena = Arena::parse(&text).ok()?;
        let mut value = yaml::value(&arena, 0);
        for item in &place.items {
            value = value.get_mut("items")?.get_mut(*item as usize)?.take();
        }
        // The items of a list of one kind need not name it.
        let resource = self.resources.get(index)?;
        let fields = value.as_object_mut()?;
        fields.entry("apiVersion").or_insert_with(|| resource.api_version.to_string().into());
        fields.entry("kind").or_insert_with(|| resource.kind.to_string().into());
        Some(value)
    }
}

/// Writes `text` at `path` below `value`; mappings that are not there are made, elements of lists are not.
fn set(value: &mut Value, path: &str, text: &str) -> Option<()> {
    let mut at = value;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']')?;
            at = at.as_array_mut()?.get_mut(index.parse::<usize>().ok()?)?;
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let fields = at.as_object_mut()?;
        let (key, after) = key_of(fields, rest);
        at = fields.entry(key).or_insert(Value::Null);
        rest = after;
    }
    *at = match text.as_bytes().first() {
        Some(b'[' | b'{') => yaml::to_json(text).ok()?.into_iter().next()?,
        _ => match (&*at, text.parse::<u64>()) {
            (Value::Number(_) | Value::Null, Ok(number)) => number.into(),
            _ => text.into(),
        },
    };
    Some(())
}

/// The key that a path begins with, and the rest of the path. Keys may hold dots: the longest that is there is meant; one
/// that is not there ends at the next dot, an annotation's or a label's at the end of the path.
fn key_of<'p>(fields: &Map<String, Value>, path: &'p str) -> (String, &'p str) {
    let mut best: Option<(usize, &String)> = None;
    for key in fields.keys() {
        let end = if path.starts_with(key.as_str()) {
            key.len()
        } else {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            match path.get(..end) {
                Some(name) if locate::same_key(key, name) => end,
                _ => continue,
            }
        };
        let ends = path.get(end..).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if ends && best.is_none_or(|(length, _)| end > length) {
            best = Some((end, key));
        }
    }
    let (end, key) = match best {
        Some((end, key)) => (end, key.clone()),
        None => {
            let end =
                if path.contains('/') { path.len() } else { path.find(['.', '[']).unwrap_or(path.len()) };
            (end, path.get(..end).unwrap_or(path).to_owned())
        }
    };
    let rest = path.get(end..).unwrap_or_default();
    (key, rest.strip_prefix('.').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Spec;
    use crate::origin::ResourceId;

    const TEXT: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a, annotations: {a.b/c: x}}
  spec: {ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: other}
spec: {hosts: [b.example], export_to: ['.'], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
";

    fn edited(id: u32, path: &str, text: &str) -> Option<Resource> {
        let set = Loader::new().text("a.yaml", TEXT).load();
        let out = set.edited([(&Origin::field(ResourceId(id), path), text)])?;
        assert_eq!(out.resources().count(), 2);
        out.get(ResourceId(id)).cloned()
    }

    #[test]
    fn fields_of_a_lists_item_are_written_and_annotations_made() {
        let Spec::Service(service) = edited(0, "spec.ports[0].port", "81").unwrap().spec else { panic!() };
        assert_eq!(service.ports[0].port, 81);
        let service = edited(0, "metadata.annotations.a.b/d", "y").unwrap();
        assert_eq!(service.meta.annotations["a.b/d"], "y");
        assert_eq!(service.meta.annotations["a.b/c"], "x");
    }

    #[test]
    fn a_list_takes_the_place_of_another_however_its_name_is_spelt() {
        let Spec::ServiceEntry(entry) = edited(1, "spec.exportTo", r#"[".", "shop"]"#).unwrap().spec else {
            panic!()
        };
        assert_eq!(entry.export_to, [".", "shop"]);
    }

    #[test]
    fn what_istio_would_refuse_or_what_is_not_there_cannot_be_written() {
        assert!(edited(1, "spec.ports[0].number", "0").is_none());
        assert!(edited(1, "spec.ports[1].number", "80").is_none());
        assert!(edited(7, "spec.hosts[0]", "x").is_none());
    }
}
