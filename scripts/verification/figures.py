"""What was measured, for the docs."""

from dataclasses import dataclass, field


@dataclass
class Figures:
    """Rows of a check, the command, and what came out."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, check: str, command: str, result: str) -> None:
        """Note one."""
        self.rows.append({"check": check, "command": command, "result": result})

    def as_table(self) -> str:
        """All of them, in Markdown."""
        lines = ["| Check | Command | Result |", "|---|---|---|"]
        for row in self.rows:
            command = f"`{row['command']}`" if row["command"] else ""
            lines.append(f"| {row['check']} | {command} | {row['result']} |")
        return "\n".join(lines)
