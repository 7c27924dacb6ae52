"""A line of every command that prints something, read from the table of the test of the commands."""
import ast
import pathlib

tree = ast.parse((pathlib.Path(__file__).parent / 'commands.py').read_text())
table = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == 'INFORMATION')
LINES = [ast.literal_eval(key) for key in table.keys] + ['backup-list web', 'domjobinfo web --completed --anystats', 'domjobinfo web --completed --rawstats',
                                                       'domblklist web --details', 'checkpoint-list web --tree', 'checkpoint-list web --parent', 'event --loop --timeout 0.1']
