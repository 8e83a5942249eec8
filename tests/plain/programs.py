"""Random programs: the source of ``async def run`` in a class, which the library runs and plain asyncio runs as well.

``source`` writes a module with one class for each seed. The module imports its words from ``WORDS_OF_ASYNCIO`` or from
the library, so that both run the very same text.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.plain.program_texts import CLASS, HEAD


@dataclass
class Writer:
    """Writes one class."""

    random: random.Random
    lines: list[str] = field(default_factory=list)
    names: int = 0
    sections: int = 0
    has_branches: bool = False
    in_section: bool = False
    counters: set[str] = field(default_factory=set)

    def write(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def name(self) -> str:
        self.names += 1
        return f"u{self.names}"

    def counter(self) -> str:
        """The name of a local that ends a loop, so nothing else assigns it."""
        name = self.name()
        self.counters.add(name)
        return name

    def assignable(self, known: list[str]) -> list[str]:
        return [name for name in known if name not in self.counters]

    # --- expressions -------------------------------------------------------------------------

    def value(self, known: list[str]) -> str:
        choices = [str(self.random.randrange(12)), "self.a", "self.b", "len(self.items)", "self.twice(self.a)"]
        choices += known * 2
        if self.random.random() < 0.3:
            left, right = self.random.choice(choices), self.random.choice(choices)
            return f"({left} {self.random.choice(['+', '-', '*'])} {right}) % 50"
        return self.random.choice(choices)

    def test(self, known: list[str]) -> str:
        operator = self.random.choice(["<", ">=", "==", "!="])
        text = f"{self.value(known)} {operator} {self.value(known)}"
        if self.random.random() < 0.2:
            text = f"{text} {self.random.choice(['and', 'or'])} {self.value(known)} % 2 == 0"
        return text

    def awaited(self, known: list[str]) -> str:
        """A call that gives an int."""
        name = self.name()
        match self.random.randrange(5):
            case 0 | 1:
                return f"await self.work({name!r}, {self.value(known)}).named({name!r})"
            case 2:
                return f"await self.double({self.value(known)}).named({name!r})"
            case 3:
                return f"await self.double({self.value(known)}, by={self.value(known)}).named({name!r})"
        return f"len(await self.note({self.value(known)}).named({name!r}))"

    def expression(self, known: list[str]) -> str:
        """An expression with one await or more inside."""
        match self.random.randrange(8):
            case 0:
                return f"{self.value(known)} + ({self.awaited(known)})"
            case 1:
                return f"({self.awaited(known)}) - ({self.awaited(known)})"
            case 2:
                return f"({self.awaited(known)}) if {self.test(known)} else {self.value(known)}"
            case 3:
                return f"({self.value(known)} % 3 and ({self.awaited(known)})) + 1"
            case 4:
                return f"max({self.value(known)}, {self.awaited(known)}, {self.value(known)})"
            case 5:
                return f"sum([self.b, {self.awaited(known)}, self.b]) % 100"
        return self.awaited(known)

    # --- statements --------------------------------------------------------------------------

    def block(self, depth: int, known: list[str], level: int, *, loop: bool) -> None:
        known = list(known)
        for _ in range(self.random.randrange(1, 4)):
            self.statement(depth, known, level, loop=loop)

    def statement(self, depth: int, known: list[str], level: int, *, loop: bool) -> None:
        kinds = ["assign", "await", "await", "inline", "field"]
        if level > 0:
            kinds += ["if", "if", "while", "for", "for", "try", "try", "match", "gather", "select", "section"]
            kinds += ["parallel", "each", "inline loop", "with", "forever", "list", "late exit", "twice"]
        kinds += ["sleep", "tuple", "add"]
        if loop:
            kinds += ["exit"]
        kinds += ["raise", "return"] if self.random.random() < 0.1 else []
        getattr(self, "_" + self.random.choice(kinds).replace(" ", "_"))(depth, known, level, loop)

    def _assign(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        new = self.random.choice([*self.assignable(known), f"x{len(known)}"])
        self.write(depth, f"{new} = {self.value(known)}")
        if new not in known:
            known.append(new)

    def _await(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        match self.random.randrange(6):
            case 0:
                self.write(depth, self.expression(known))
            case 1 if targets := self.assignable(known):
                self.write(depth, f"{self.random.choice(targets)} += {self.awaited(known)}")
            case 2:
                self.write(depth, f"self.a = ({self.expression(known)}) % 40")
            case 3:
                self.write(depth, f"self.items.append({self.expression(known)})")
            case _:
                value = self.expression(known)
                new = f"x{len(known)}"
                self.write(depth, f"{new} = {value}")
                known.append(new)

    def _inline(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        match self.random.randrange(4):
            case 0:
                self.write(depth, f"self.log.append(f'inline {{{self.value(known)}}}')")
            case 1:
                self.write(depth, f"self.a = sum(i for i in range({self.value(known)} % 5)) + 1")
            case 2:
                new = f"x{len(known)}"
                self.write(depth, f"if ({new} := {self.value(known)}) > 3:")
                self.write(depth + 1, f"self.log.append(str({new}))")
                known.append(new)
            case _:
                self.write(depth, f"with open('/dev/null') as file: self.b += {self.value(known)} % 5")

    def _inline_loop(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, f"for i in range({self.value(known)} % 4):")
        self.write(depth + 1, "if i == 2:")
        self.write(depth + 2, self.random.choice(["break", "continue"] + ["return"] * (not self.in_section)))
        self.write(depth + 1, "self.log.append(f'i {i}')")

    def _with(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, "try:")
        self.write(depth + 1, f"self.log.append(str(10 // ({self.value(known)} % 3)))")
        if loop and self.random.random() < 0.5:
            self.write(depth + 1, self.random.choice(["break", "continue"]))
        self.write(depth, "except ZeroDivisionError:")
        self.write(depth + 1, "self.log.append('zero')")

    def _forever(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        counter = self.counter()
        self.write(depth, f"{counter} = 0")
        self.write(depth, "while True:")
        self.write(depth + 1, f"{counter} += 1")
        self.block(depth + 1, [*known, counter], level - 1, loop=False)
        self.write(depth + 1, f"if {counter} > {self.random.randrange(1, 3)} or {self.test(known)}:")
        self.write(depth + 2, "break")
        known.append(counter)

    def _list(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        """A list that is changed on both sides of awaits."""
        name, item = self.name(), self.name()
        self.write(depth, f"{name} = [{self.value(known)}, {self.value(known)}]")
        self.write(depth, f"for {item} in {name}:")
        self.block(depth + 1, [*known, item], level - 1, loop=True)
        self.write(depth + 1, self.awaited([*known, item]))
        self.write(depth + 1, f"if len({name}) < 4:")
        self.write(depth + 2, f"{name}.append({self.value([*known, item])})")
        self.write(depth, f"self.log.append(str({name}))")

    def _tuple(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        name = self.name()
        self.write(depth, f"{name} = ({self.value(known)}, {{'k': {self.value(known)}}}, str({self.value(known)}))")
        self.write(depth, self.awaited(known))
        self.write(depth, f"self.log.append(str({name}))")

    def _add(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, f"self.{self.random.choice('ab')} += {self.awaited(known)}")
        self.write(depth, "self.a, self.b = self.a % 50, self.b % 50")

    def _sleep(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        name = self.name()
        self.write(depth, f"await until(lambda: {self.value(known)} + 1000 > 0).named({name!r})")

    def _late_exit(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        """A ``finally`` that changes a local after an exit; with an await inside, or without one."""
        name = self.name()
        self.write(depth, f"{name} = {self.value(known)}")
        self.write(depth, "try:")
        self.block(depth + 1, [*known, name], level - 1, loop=loop)
        self.write(depth + 1, f"if {self.test(known)}:")
        self.write(depth + 2, self.random.choice(["continue", "break"]) if loop else "raise Odd('late')")
        self.write(depth + 1, f"{name} = {self.value(known)} + 1")
        self.write(depth, "finally:")
        self.write(depth + 1, f"{name} += 1")
        if self.random.random() < 0.5:
            self.write(depth + 1, self.awaited([*known, name]))
        self.write(depth + 1, f"self.log.append(f'late {{{name}}}')")
        known.append(name)

    def _twice(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        """A section that is used more than once."""
        for _ in range(2):
            name = self.name()
            self.write(depth, f"{name} = await self.shared({self.value(known)}).named({name!r})")
            known.append(name)

    def _field(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        target = self.random.choice(["self.a", "self.b"])
        self.write(depth, f"{target} = {self.value(known)} % 60")

    def _if(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        test = self.test(known) if self.random.random() < 0.7 else f"({self.awaited(known)}) % 2"
        self.write(depth, f"if {test}:")
        self.block(depth + 1, known, level - 1, loop=loop)
        if self.random.random() < 0.4:
            self.write(depth, f"elif {self.test(known)}:")
            self.block(depth + 1, known, level - 1, loop=loop)
        if self.random.random() < 0.5:
            self.write(depth, "else:")
            self.block(depth + 1, known, level - 1, loop=loop)

    def _while(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        counter = self.counter()
        self.write(depth, f"{counter} = 0")
        extra = f" and ({self.awaited([*known, counter])}) % 5 != 1" if self.random.random() < 0.3 else ""
        self.write(depth, f"while {counter} < {self.random.randrange(1, 4)}{extra}:")
        self.write(depth + 1, f"{counter} += 1")
        self.block(depth + 1, [*known, counter], level - 1, loop=True)
        if self.random.random() < 0.3:
            self.write(depth, "else:")
            self.block(depth + 1, known, level - 1, loop=loop)
        known.append(counter)

    def _for(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        name = self.name()
        items = self.random.choice(
            ["self.items[:3]", "range(3)", f"range({self.value(known)} % 4)", "sorted(self.items)[:2]", "(4, 5)"]
        )
        self.write(depth, f"for {name} in {items}:")
        if self.random.random() < 0.2:
            self.write(depth + 1, f"{name} = {name} + 1")
        self.block(depth + 1, [*known, name], level - 1, loop=True)
        if self.random.random() < 0.3:
            self.write(depth, "else:")
            self.block(depth + 1, known, level - 1, loop=loop)

    def _try(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, "try:")
        self.block(depth + 1, known, level - 1, loop=loop)
        self.write(depth + 1, f"{self.awaited(known)}")
        has_final = self.random.random() < 0.4
        for kind in self.random.sample(["Odd", "KeyError", "ValueError", "Exception", "(Odd, KeyError)"], 2):
            if has_final and self.random.random() < 0.3:
                continue
            self.write(depth, f"except {kind} as error:")
            self.write(depth + 1, "self.log.append(f'{type(error).__name__} {error}')")
            self.block(depth + 1, known, level - 1, loop=loop)
            if self.random.random() < 0.2:
                self.write(depth + 1, "raise")
        if self.lines[-1].strip() and not has_final and self.random.random() < 0.3:
            self.write(depth, "else:")
            self.block(depth + 1, known, level - 1, loop=loop)
        if has_final:
            self.write(depth, "finally:")
            self.write(depth + 1, "self.log.append('finally')")
            self.write(depth + 1, f"{self.awaited(known)}")

    def _match(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, f"match {self.value(known)} % 4:")
        self.write(depth + 1, "case 0:")
        self.block(depth + 2, known, level - 1, loop=loop)
        self.write(depth + 1, "case (1 | 2) as m:")
        self.block(depth + 2, [*known, "m"], level - 1, loop=loop)
        if self.random.random() < 0.5:
            self.write(depth + 1, "case _:")
            self.block(depth + 2, known, level - 1, loop=loop)

    def _select(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        name = self.name()
        self.write(depth, f"{name} = await select(self.first, self.second, timeout=timedelta(1)).named({name!r})")
        self.write(depth, f"self.log.append(f'got {{{name}.event}} {{{name}.input}} {{{name}.timed_out}}')")
        tests = [f"{name}.happened(self.first)", f"{name}.timed_out", f"not {name}.timed_out"]
        first, second = self.random.sample(tests, 2)
        if self.random.random() < 0.6:
            self.write(depth, f"if {first}:")
            self.block(depth + 1, known, level - 1, loop=loop)
            if self.random.random() < 0.4:
                self.write(depth, f"elif {second}:")
                self.block(depth + 1, known, level - 1, loop=loop)
            if self.random.random() < 0.4:
                self.write(depth, "else:")
                self.block(depth + 1, known, level - 1, loop=loop)

    def _gather(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.has_branches = True
        names = [self.name(), self.name()]
        calls = [f"self.double({self.value(known)} % 11).named({name!r})" for name in names]
        new = self.name()
        self.write(depth, f"{new}, other = await gather({', '.join(calls)}).named({new!r})")
        known.append(new)

    def _each(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.has_branches = True
        name, new = self.name(), self.name()
        value = self.value(known)
        self.write(
            depth,
            f"{new} = sum(await gather(*(self.double((i + {value}) % 11).named({name!r}) for i in self.items[:4])))",
        )
        known.append(new)

    def _parallel(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.has_branches = True
        self.write(depth, "async with parallel() as branch:")
        for _ in range(2):
            name = self.name()
            self.write(depth + 1, f"branch.start(self.work({name!r}, {self.value(known)} % 5).named({name!r}))")

    def _section(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        new = f"x{len(known)}"
        name = f"section{self.sections}"
        if self.in_section or self.sections >= 2:
            return self._await(depth, known, level, loop)
        self.sections += 1
        self.write(depth, f"{new} = await self.{name}({self.value(known)}, q={self.value(known)})")
        known.append(new)
        return None

    def _exit(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, f"if {self.test(known)}:")
        if self.random.random() < 0.4:
            self.write(depth + 1, self.awaited(known))
        self.write(depth + 1, self.random.choice(["break", "continue"]))

    def _raise(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, f"if {self.test(known)}:")
        self.write(depth + 1, f"raise {self.random.choice(['Odd', 'KeyError'])}('raised')")

    def _return(self, depth: int, known: list[str], level: int, loop: bool) -> None:
        self.write(depth, f"if {self.test(known)}:")
        self.write(depth + 1, f"return {self.value(known)}" if self.in_section else "return")


def class_of(seed: int) -> str:
    """Returns the text of one class."""
    writer = Writer(random.Random(seed))
    writer.write(1, "async def run(self) -> None:")
    writer.block(2, [], 3, loop=False)
    writer.write(2, writer.awaited([]))
    writer.write(2, "self.log.append('end')")
    writer.in_section = True
    for number in range(writer.sections):
        writer.write(0, "")
        writer.write(1, f"async def section{number}(self, p: int, q: int = 4) -> int:")
        writer.block(2, ["p", "q"], 2, loop=False)
        writer.write(2, f"return {writer.value(['p', 'q'])}")
    marks = "    has_branches: bool = True\n" if writer.has_branches else ""
    return CLASS.format(seed=seed) + "\n" + marks + "\n".join(writer.lines) + "\n"


def source(seeds: range, words: str) -> str:
    """Returns the text of a module."""
    return HEAD.format(words=words) + "".join(class_of(seed) for seed in seeds)
