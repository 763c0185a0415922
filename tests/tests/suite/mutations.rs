//! Whatever a manifest holds, reading it ends: no panic, no runaway time, nothing said out of proportion.
//!
//! Mutations of real manifests, by a fixed seed: flipped and removed bytes, spliced lines, deep nesting, huge numbers, and
//! aliases that multiply.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

const MUTATIONS: usize = 100_000;
/// Far above what a small manifest takes in a debug build on a busy machine; a square of anything is above it.
const LONGEST: Duration = Duration::from_secs(5);

const SEEDS: &[&str] = &[
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: shop}\nspec:\n  hosts: [a.example, \"*.b.example\"]\n  gateways: [mesh, shop/gw]\n  http:\n  - match:\n    - uri: {prefix: /a}\n      headers: {x: {regex: \"a+b\"}}\n    route:\n    - destination: {host: a, subset: v1, port: {number: 80}}\n      weight: 30\n    - {destination: {host: b}, weight: 70}\n    retries: {attempts: 2, perTryTimeout: 2s, retryOn: 5xx}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec:\n  clusterIP: 10.0.0.1\n  selector: {app: a}\n  ports: [{name: http, port: 80, targetPort: web}, {port: 0x1F90, protocol: TCP}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a-1, namespace: shop, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nendpoints: [{addresses: [10.244.0.1], conditions: {ready: true}}]\nports: [{name: http, port: 8080}]\n",
    "apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n  hosts: [e.example]\n  addresses: [240.0.0.0/8]\n  ports: [{number: 443, name: tls, protocol: TLS}]\n  resolution: STATIC\n  endpoints: [{address: 1.2.3.4, ports: {tls: 8443}}]\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec: {host: e.example, trafficPolicy: {tls: {mode: SIMPLE, sni: e.example}}, subsets: [{name: v1, labels: {version: v1}}]}\n",
    "apiVersion: v1\nkind: List\nitems:\n- &gw\n  apiVersion: networking.istio.io/v1\n  kind: Gateway\n  metadata: {name: gw, namespace: shop}\n  spec:\n    selector: {istio: ingressgateway}\n    servers:\n    - port: {number: 443, name: https, protocol: HTTPS}\n      hosts: [\"*\"]\n      tls: {mode: SIMPLE, credentialName: c}\n- *gw\n- {apiVersion: v1, kind: Secret, metadata: {name: c}, stringData: {tls.key: abc}}\n",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  action: DENY\n  rules:\n  - from: [{source: {principals: [\"*/sa/a\"], ipBlocks: [10.0.0.0/8]}}]\n    to: [{operation: {paths: [\"/a/{*}\"], ports: [\"80\"]}}]\n    when: [{key: \"request.headers[x]\", values: [a]}]\n---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {egress: [{hosts: [\"./*\", \"istio-system/*\"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w}\nspec: {template: {metadata: {labels: {app: w}}, spec: {containers: [{name: c, image: i}]}}}\n",
];

/// Pieces that are put where they do not belong.
const PIECES: &[&str] = &[
    ": ",
    "- ",
    "\n",
    "\t",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|",
    ">",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "!!int ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "\u{feff}",
    "\u{85}",
    "\r\n",
    "é",
    "~",
    "null",
    "18446744073709551616",
    "-9223372036854775809",
    "1e999",
    ".nan",
    "0x",
    "99999999999",
    "-1",
    "spec:",
    "metadata: ",
    "kind: ",
    "hosts: ",
    "2147483648",
    "4294967296s",
    "\\",
    "%",
    "#",
    "?",
    "*",
    "yes",
    "0o777",
    "1_000",
];

/// A source of numbers that are the same in every run (SplitMix64).
struct Mutator(u64);

impl Mutator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let index = self.below(list.len());
        list[index]
    }

    fn mutated(&mut self) -> Vec<u8> {
        let mut text = self.pick(SEEDS).as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(text.len() + 1);
            match self.below(9) {
                0 if at < text.len() => text[at] ^= 1 << self.below(8),
                1 => text.truncate(at),
                2 => {
                    let end = (at + self.below(20)).min(text.len());
                    text.drain(at..end);
                }
                3 | 4 => {
                    let piece = self.pick(PIECES);
                    text.splice(at..at, piece.bytes());
                }
                5 => {
                    // A stretch of another manifest.
                    let other = self.pick(SEEDS).as_bytes();
                    let start = self.below(other.len());
                    let end = (start + self.below(60)).min(other.len());
                    text.splice(at..at, other[start..end].iter().copied());
                }
                6 => {
                    let depth = self.below(400);
                    let open = self.pick(&["[", "{a: ", "- ", "? "]).repeat(depth);
                    text.splice(at..at, open.bytes());
                }
                7 => {
                    let mut bomb = String::from("\nx0: &x0 [a, a, a, a, a, a, a, a, a]\n");
                    for level in 1..=self.below(12) {
                        let below = format!("*x{},", level - 1).repeat(9);
                        bomb += &["x", &level.to_string(), ": &x", &level.to_string(), " [", &below, "]\n"]
                            .concat();
                    }
                    text.splice(at..at, bomb.bytes());
                }
                _ => {
                    let copy = text.clone();
                    text.splice(at..at, copy);
                }
            }
        }
        text
    }
}

#[test]
fn mutated_manifests_are_read_to_their_end() {
    let threads = 2;
    let slow = AtomicUsize::new(0);
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (slow, read) = (&slow, &read);
            scope.spawn(move || {
                let mut mutator = Mutator(thread as u64);
                for _ in 0..MUTATIONS / threads {
                    let bytes = mutator.mutated();
                    let size = bytes.len();
                    let start = Instant::now();
                    let set = Loader::new().bytes("a.yaml", bytes).load();
                    let said: usize = set.diagnostics().iter().map(|d| d.message.len() + 100).sum();
                    assert!(said <= 100 * size + 100_000, "{said} bytes said about {size}");
                    let mesh = Mesh::new(set, MeshOptions::default());
                    read.fetch_add(mesh.manifests().resources().count(), Ordering::Relaxed);
                    // Places are found again for everything that is said.
                    for diagnostic in mesh.diagnostics().take(1) {
                        for label in &diagnostic.labels {
                            if let dryroute::diagnostic::Place::Origin(origin) = &label.at {
                                assert!(mesh.manifests().locate(origin).is_some(), "{diagnostic:?}");
                            }
                        }
                    }
                    slow.fetch_add(usize::from(start.elapsed() > LONGEST), Ordering::Relaxed);
                }
            });
        }
    });
    eprintln!("{MUTATIONS} mutated manifests hold {} resources", read.load(Ordering::Relaxed));
    assert_eq!(slow.load(Ordering::Relaxed), 0, "manifests that took longer than {LONGEST:?}");
    assert!(read.load(Ordering::Relaxed) > MUTATIONS / 4, "mutations that leave nothing test nothing");
}
