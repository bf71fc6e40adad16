"""From tables and MLflow to one checked frame; names, units and FLOP conventions of the records.

`schema` is the contract with the writer. `table` reads any source and `study` a study of varscale, from MLflow by
`mlflow_runs` and `mlflow_store`. `expressions`, `units` and `comparability` check what is read.
"""
