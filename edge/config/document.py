"""YAML text to plain values, each with its place in the file; the only file that uses yaml.

No value is interpreted by how it looks: the schema alone decides what is a number or a truth
value. So a class may be named `no`, a device 0421 and a password 12e3 without quotes, which
YAML 1.1 would read as false, 273 and 12000.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple, Union

import yaml

from edge.config.faults import Fault, Key, Place
from edge.config.interpolation import has_reference, interpolate

Value = Union[None, str, List["Value"], Dict[str, "Value"]]
_Pair = Tuple[yaml.ScalarNode, yaml.Node]

# Far above any real configuration, and small enough that no file can exhaust the machine:
# aliases of aliases grow without bound from a few lines.
_MAX_DEPTH = 20
_MAX_NODES = 20_000

_NULLS = ("", "~", "null", "Null", "NULL")
_PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))

_NOT_TEXT = "contains a NUL or bytes that are not UTF-8"
_TOO_DEEP = f"nested deeper than {_MAX_DEPTH} levels"

# By the beginning of the parser's own words, which may quote the text and so a secret.
_PROBLEMS = (
    ("found character '\\t'", "a tab cannot indent: use spaces"),
    ("found character", "a value that begins with this character must be quoted"),
    ("mapping values are not allowed", "':' is not expected here: check the indentation above, "
     "or quote a value that contains ': '"),
    ("could not find expected ':'", "the line before is not `key: value`: is there a space after "
     "the colon?"),
    ("found undefined alias", "a value that begins with '*' must be quoted"),
    ("expected alphabetic or numeric", "a value that begins with '*' or '&' must be quoted"),
    ("found undefined tag", "a value that begins with '!' must be quoted"),
    ("expected URI", "a value that begins with '!' must be quoted"),
    ("second occurrence", "this anchor (&) is defined twice"),
    ("found unknown escape", "unknown escape after '\\': use single quotes"),
    ("found unexpected end of stream", "the quote that begins here never ends"),
    ("expected ',' or ']'", "the list that begins here is not closed by ']'"),
    ("expected ',' or '}'", "the map that begins here is not closed by '}'"),
    ("but found another document", "a second document begins here: a configuration has one"),
    ("expected '<document start>'", "nothing may follow the configuration"),
    ("found incompatible YAML", "only YAML 1.x can be read"),
    ("expected <block end>", "does not fit the lines above: check the indentation and quotes"),
    (_TOO_DEEP, _TOO_DEEP),
)  # fmt: skip

# These problems show at the end of the file; their cause is where the construct began.
_SHOWN_AT_START = ("found unexpected end of stream", "expected ',' or")


@dataclass
class Document:
    """The file's values and the places of its keys.

    `hidden` are the values that came from the environment, `broken` those already faulted.
    """

    value: Value = None
    places: Dict[Key, Place] = field(default_factory=dict)
    faults: List[Fault] = field(default_factory=list)
    hidden: Set[Key] = field(default_factory=set)
    broken: Set[Key] = field(default_factory=set)

    def place_of(self, key: Key) -> Optional[Place]:
        """Where `key` stands; what is not in the file stands where its parent does."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.places:
                return self.places[key[:end]]
        return None

    def fault(self, key: Key, place: Place, reason: str) -> None:
        """Notes a fault, so that nothing else is said about the same value."""
        self.faults.append(Fault(reason, place, key))
        self.broken.add(key)


def parse(text: str, environ: Mapping[str, str]) -> Document:
    """Reads one document and fills in its references to `environ`.

    Never raises: everything wrong is in the result's `faults`.
    """
    document = Document()
    try:
        root = _compose(text)
        if root is not None:
            document.places[()] = _place(root.start_mark)
            document.value = _Walk(document, environ).value(root, ())
    except _Refused as refusal:
        document.faults.append(refusal.fault)
    return document


class _Refused(Exception):
    """Reading cannot go on."""

    def __init__(self, reason: str, place: Optional[Place]) -> None:
        super().__init__(reason)
        self.fault = Fault(reason, place)


# The parser in Python rather than libyaml's: its words are known, so they can be translated.
class _Loader(yaml.BaseLoader):
    _depth = 0

    def compose_node(self, parent: Optional[yaml.Node], index: int) -> Optional[yaml.Node]:
        if self._depth == _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _compose(text: str) -> Optional[yaml.Node]:
    try:
        return _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        character = f"U+{ord(text[error.position]):04X}"
        place = _place_at(text, error.position)
        raise _Refused(f"the character {character} cannot be in YAML", place) from error
    except yaml.MarkedYAMLError as error:
        raise _Refused(*_explained(error)) from error
    except (ValueError, OverflowError) as error:
        # The parser converts escapes and version numbers without a check.
        raise _Refused("an escape or version number is out of range", None) from error


def _explained(error: yaml.MarkedYAMLError) -> Tuple[str, Optional[Place]]:
    problem = error.problem or ""
    mark = error.problem_mark
    if problem.startswith(_SHOWN_AT_START) and error.context_mark is not None:
        mark = error.context_mark
    known = (reason for start, reason in _PROBLEMS if problem.startswith(start))
    return next(known, "this is not valid YAML"), None if mark is None else _place(mark)


class _Walk:
    """Turns nodes into values, noting places and faults in the document."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._nodes = 0

    def value(self, node: yaml.Node, key: Key) -> Value:
        self._count(node, len(key))
        if node.tag not in _PLAIN_TAGS:
            self._refused(node, key, "tags are not supported: quote a value with '!'")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*key, i)) for i, item in enumerate(node.value)]
        return self._map(node, key)

    def _item(self, node: yaml.Node, key: Key) -> Value:
        self._document.places[key] = _place(node.start_mark)
        return self.value(node, key)

    def _map(self, node: yaml.Node, key: Key) -> Dict[str, Value]:
        values: Dict[str, Value] = {}
        for key_node, value_node in self._pairs(node, key, len(key)):
            name = key_node.value
            child = (*key, name)
            self._document.places[child] = _place(key_node.start_mark)
            values[name] = self.value(value_node, child)
        return values

    def _pairs(self, node: yaml.Node, key: Key, depth: int) -> Iterator[_Pair]:
        """The keys of a map: its own, then those merged (`<<`) that it does not override."""
        self._count(node, depth)
        if not isinstance(node, yaml.MappingNode):
            self._refused(node, key, "only maps can be merged with '<<'")
            return
        own = list(self._own_pairs(node, key))
        seen = {key_node.value for key_node, _ in own}
        yield from own
        for source in _merge_sources(node):
            for key_node, value_node in self._pairs(source, key, depth + 1):
                if key_node.value not in seen:
                    seen.add(key_node.value)
                    yield key_node, value_node

    def _own_pairs(self, node: yaml.MappingNode, key: Key) -> Iterator[_Pair]:
        seen: Dict[str, Place] = {}
        for key_node, value_node in node.value:
            self._count(key_node, len(key))
            place = _place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or not _is_text(key_node.value):
                self._document.faults.append(Fault("a key must be plain text", place, key))
            elif _is_merge(key_node):
                continue
            elif key_node.value in seen:
                first = seen[key_node.value].line
                self._document.fault(
                    (*key, key_node.value), place, f"is given twice, first in line {first}"
                )
            else:
                seen[key_node.value] = place
                yield key_node, value_node

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> Optional[str]:
        text: str = node.value
        is_plain = node.style is None
        if is_plain and text in _NULLS:
            return None
        if has_reference(text):
            self._document.hidden.add(key)
        try:
            filled = interpolate(text, self._environ)
        except ValueError as error:
            self._refused(node, key, str(error))
            return None
        if not _is_text(filled):
            self._refused(node, key, _NOT_TEXT)
            return None
        # As if the reference had been replaced in the file: `key: ${UNSET:-}` has no value.
        return None if is_plain and not filled else filled

    def _refused(self, node: yaml.Node, key: Key, reason: str) -> None:
        place = self._document.place_of(key) or _place(node.start_mark)
        self._document.fault(key, place, reason)

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._nodes += 1
        if depth > _MAX_DEPTH:
            reason = f"{_TOO_DEEP}: does an alias (*) contain itself?"
            raise _Refused(reason, _place(node.start_mark))
        if self._nodes > _MAX_NODES:
            reason = f"more than {_MAX_NODES} values: do aliases (*) multiply?"
            raise _Refused(reason, _place(node.start_mark))


def _is_text(text: str) -> bool:
    # Escapes and the environment can smuggle in what no file name and no message may hold.
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _is_merge(key_node: yaml.Node) -> bool:
    return (
        isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and key_node.style is None
    )


def _merge_sources(node: yaml.MappingNode) -> Iterator[yaml.Node]:
    for key_node, value_node in node.value:
        if _is_merge(key_node):
            is_list = isinstance(value_node, yaml.SequenceNode)
            yield from value_node.value if is_list else [value_node]


def _place(mark: yaml.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _place_at(text: str, position: int) -> Place:
    before = text[:position]
    return Place(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)
